"""Which labels to buy? Accuracy against the number of labels for every acquisition of ``active``.

X is the first 100 train images of each class of a fine-grained group of Tiny-ImageNet, the test set its validation
images. Every arm begins with one backbone (SimCLR on X, no labels), buys equally many labels a round and trains
equally long; the first round's labels are the same for all arms of a seed. ``gain`` is the mean accuracy over the
rounds after the first less that of random picks with the same seed. Finished runs in ``--work`` are not redone.

    python benchmarks/tasks/active.py --data DIR
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
from simcore.tasks.active import ActiveLearning

BASELINE = "random"
Lines = dict[str, list[dict[str, Any]]]


def run(args: argparse.Namespace, places: dict[str, str], encoder: str) -> Lines:
    """Evaluate every acquisition with every seed."""
    found: Lines = {}
    for seed in args.seeds:
        for name in dict.fromkeys((BASELINE, *args.acquisitions)):
            out = args.work / f"{name}-seed{seed}"
            began = time.monotonic()
            if (out / "metrics.json").exists():
                report, seconds = Report.load(out), None
            else:
                task = ActiveLearning(
                    acquisition=name,
                    seed=seed,
                    rounds=args.rounds,
                    budget=args.budget,
                    tune=not args.frozen,
                    epochs=args.epochs,
                    batch_size=args.batch_size,
                    lr=args.lr,
                    device=args.device,
                    num_workers=0,
                )
                report = pipeline.evaluate(
                    task,
                    encoder,
                    train=places["train"],
                    test=places["test"],
                    image_size=args.image_size,
                    out=out,
                    quiet=True,
                )
                seconds = round(time.monotonic() - began, 1)
            rounds = report.details["rounds"]
            line = {
                "seed": seed,
                "num_labels": [r["num_labels"] for r in rounds],
                "top1": [round(r["metrics"]["top1"], 2) for r in rounds],
                "num_classes_seen": [r["num_classes_seen"] for r in rounds],
                "seconds": seconds,
            }
            found.setdefault(name, []).append(line)
            print(name, line, file=sys.stderr, flush=True)
    return found


def table(found: Lines) -> dict[str, dict[str, Any]]:
    """Mean and spread over seeds by number of labels, and what each acquisition gains over random picks."""
    base = [statistics.mean(line["top1"][1:] or line["top1"]) for line in found[BASELINE]]
    rows = {}
    for name, lines in found.items():
        means = [statistics.mean(line["top1"][1:] or line["top1"]) for line in lines]
        gains = [round(one - other, 2) for one, other in zip(means, base, strict=True)]
        curve = {
            str(num): {
                "top1": round(statistics.mean(values), 2),
                "std": round(statistics.stdev(values), 2) if len(values) > 1 else None,
            }
            for num, *values in zip(lines[0]["num_labels"], *(line["top1"] for line in lines), strict=True)
        }
        rows[name] = {"by_num_labels": curve, "gain": gains, "wins": min(gains) > 0}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Tiny-ImageNet as Parquet, with targets.json")
    parser.add_argument("--work", type=Path, default=Path("runs/active"), help="folder for everything made")
    parser.add_argument("--target", default="pets")
    parser.add_argument("--acquisitions", nargs="+", default=["entropy", "coreset", "badge"])
    parser.add_argument("--encoder", help="RUN that every arm begins with (default: SimCLR on X)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--per-class", type=int, default=100)
    parser.add_argument("--backbone", default="resnet10")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--pretrain-steps", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--budget", default="5%")
    parser.add_argument("--frozen", action="store_true", help="train a head on frozen features instead")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.03)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="result file (default: results/active-TARGET.json)")
    args = parser.parse_args()
    args.data = args.data.resolve()
    warnings.simplefilter("ignore", SimcoreWarning)
    began = time.monotonic()
    places = sources(args)
    found = run(args, places, backbone(args, places["train"]))
    result = {
        "what": (__doc__ or "").partition("\n")[0],
        "settings": {k: v for k, v in vars(args).items() if k not in ("data", "work", "out")},
        "machine": machine.describe(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() and args.device != "cpu" else "cpu",
        "table": table(found),
        "runs": found,
        "minutes": round((time.monotonic() - began) / 60, 1),
    }
    out = args.out or RESULTS / f"active-{args.target}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["table"], indent=1))


if __name__ == "__main__":
    main()
