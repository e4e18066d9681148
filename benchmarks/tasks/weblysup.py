"""Do methods for noisy labels help? Plain training against Co-teaching and DivideMix, with labels made wrong.

X is the first 100 train images of each class of a fine-grained group of Tiny-ImageNet, the test set its validation
images. Every arm begins with one backbone (SimCLR on X, no labels) and takes equally many steps of the same
optimizer; DivideMix looks at more images in a step. Of the labels the share ``--noise`` is made wrong, the same ones
for every arm of a seed. ``gain`` is an arm's accuracy less that of plain training with the same seed and noise;
``precision`` and ``recall`` say how well the true labels were found. The first network of a pair is measured;
``ensemble`` is both together. Epochs of warm-up and ramps are the published shares of a run of 100 epochs. Finished
runs in ``--work`` are not redone.

    python benchmarks/tasks/weblysup.py --data DIR
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from semisup import RESULTS, backbone, sources

sys.path.insert(0, str(Path(__file__).parents[1]))
import machine
from simcore import pipeline
from simcore.artifacts import Report
from simcore.errors import SimcoreWarning
from simcore.tasks.weblysup import WeblySupervised

BASELINE = "plain"
Lines = dict[str, list[dict[str, Any]]]


def task_of(method: str, noise: float, seed: int, args: argparse.Namespace) -> WeblySupervised:
    return WeblySupervised(
        method=method,
        label_noise=noise,
        seed=seed,
        epochs=args.epochs,
        batch_size=args.batch_size,
        lr=args.lr,
        warm_up_epochs=max(1, round(0.3 * args.epochs)),
        num_gradual=max(1, round(0.1 * args.epochs)),
        ramp_epochs=max(1, round(0.16 * args.epochs)),
        unlabelled_weight=args.unlabelled_weight,
        device=args.device,
        num_workers=0,
    )


def run(noise: float, args: argparse.Namespace, places: dict[str, str], encoder: str) -> Lines:
    """Evaluate every method with every seed."""
    found: Lines = {}
    for seed in args.seeds:
        for method in dict.fromkeys((BASELINE, *args.methods)):
            out = args.work / f"noise{noise:g}" / f"{method}-seed{seed}"
            began = time.monotonic()
            if (out / "metrics.json").exists():
                report, seconds = Report.load(out), None
            else:
                report = pipeline.evaluate(
                    task_of(method, noise, seed, args),
                    encoder,
                    train=places["train"],
                    test=places["test"],
                    image_size=args.image_size,
                    out=out,
                    quiet=True,
                )
                seconds = round(time.monotonic() - began, 1)
            line = {"seed": seed, "top1": round(report.metrics["top1"], 2), "seconds": seconds}
            if "top1_ensemble" in report.metrics:
                line["ensemble"] = round(report.metrics["top1_ensemble"], 2)
                line |= {name: round(value, 1) for name, value in report.details["held_clean"][0].items()}
            found.setdefault(method, []).append(line)
            print(noise, method, line, file=sys.stderr, flush=True)
    return found


def table(found: Lines) -> dict[str, dict[str, Any]]:
    """Mean and spread over seeds, and what each method gains over plain training with the same seed."""
    base = [line["top1"] for line in found[BASELINE]]
    rows = {}
    for method, lines in found.items():
        top1 = [line["top1"] for line in lines]
        gains = [round(one - other, 2) for one, other in zip(top1, base, strict=True)]
        spread = round(statistics.stdev(top1), 2) if len(top1) > 1 else None
        rows[method] = {"top1": round(statistics.mean(top1), 2), "std": spread, "gain": gains, "wins": min(gains) > 0}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Tiny-ImageNet as Parquet, with targets.json")
    parser.add_argument("--work", type=Path, default=Path("runs/weblysup"), help="folder for everything made")
    parser.add_argument("--target", default="pets")
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0, 0.2, 0.4])
    parser.add_argument("--methods", nargs="+", default=["coteaching", "dividemix"])
    parser.add_argument("--encoder", help="RUN that every arm begins with (default: SimCLR on X)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--per-class", type=int, default=100)
    parser.add_argument("--backbone", default="resnet10")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--pretrain-steps", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.03)
    parser.add_argument("--unlabelled-weight", type=float, default=75.0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="result file (default: results/weblysup-TARGET.json)")
    args = parser.parse_args()
    args.data = args.data.resolve()
    warnings.simplefilter("ignore", SimcoreWarning)
    began = time.monotonic()
    places = sources(args)
    encoder = backbone(args, places["train"])
    found = {f"{noise:g}": run(noise, args, places, encoder) for noise in args.noise}
    result = {
        "what": (__doc__ or "").partition("\n")[0],
        "settings": {k: v for k, v in vars(args).items() if k not in ("data", "work", "out")},
        "machine": machine.describe(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() and args.device != "cpu" else "cpu",
        "tables": {noise: table(lines) for noise, lines in found.items()},
        "runs": found,
        "minutes": round((time.monotonic() - began) / 60, 1),
    }
    out = args.out or RESULTS / f"weblysup-{args.target}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["tables"], indent=1))


if __name__ == "__main__":
    main()
