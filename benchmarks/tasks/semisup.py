"""Do unlabelled images help? Fine-tuning on the labels alone against every method of semisup and opensemi.

X is the first 100 train images of each class of a fine-grained group of Tiny-ImageNet, the test set its validation
images. Every arm begins with one backbone (SimCLR on X, no labels) and takes equally many steps of the same optimizer.

- semisup: a tenth of X is labelled, the rest of X is unlabelled.
- opensemi: half of X is labelled; unlabelled are the rest of X and as many images of each class of the other groups.
  FixMatch, which does not expect foreign classes, runs there too.

Each arm is run with several seeds, which draw the labels and train; ``gain`` is its accuracy less that of
fine-tuning with the same seed. ``all labels`` is what fine-tuning reaches when nothing is hidden. Finished runs in
``--work`` are not redone.

    python benchmarks/tasks/semisup.py --data DIR
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import machine
from simcore import pipeline
from simcore.artifacts import Report
from simcore.errors import SimcoreWarning
from simcore.methods.simclr import SimCLR
from simcore.tasks.finetune import FineTune
from simcore.tasks.opensemi import OpenSemi
from simcore.tasks.semisup import SemiSupervised

RESULTS = Path(__file__).parents[1] / "results"
BASELINE = "labels alone"
PART = {"semisup": 0.1, "opensemi": 0.5}


def sources(args: argparse.Namespace) -> dict[str, str]:
    """Name X, its test set and the foreign images."""
    groups = json.loads((args.data / "targets.json").read_text())
    own = ",".join(groups[args.target]["wnids"])
    other = ",".join(name for group, body in groups.items() if group != args.target for name in body["wnids"])
    images, limit = f"{args.data}/train-*.parquet", f"limit-per-class={args.per_class}"
    return {
        "train": f"{images}#classes={own}&{limit}",
        "test": f"{args.data}/val.parquet#classes={own}",
        "foreign": f"{images}#classes={other}&{limit}",
    }


def backbone(args: argparse.Namespace, train: str) -> str:
    """Give the encoder that every arm begins with, pretrained on X if none is named."""
    if args.encoder:
        return str(args.encoder)
    out = args.work / "encoder"
    pipeline.pretrain(
        SimCLR(),
        train,
        backbone=args.backbone,
        out=out,
        resume=True,
        max_steps=args.pretrain_steps,
        batch_size=128,
        image_size=args.image_size,
        optimizer="adam",
        lr=1e-3,
        num_workers=0,
        device=args.device,
        tensorboard=False,
        probe_every=0,
    )
    return str(out)


def arms(part: str, args: argparse.Namespace, num_images: int, seed: int) -> Iterator[tuple[str, Any]]:
    """Yield the tasks that are compared, by name."""
    shared = {"lr": args.lr, "schedule": "cosine", "seed": seed, "device": args.device, "num_workers": 0}
    steps = args.epochs * args.steps_per_epoch

    def finetune(ratio: float) -> FineTune:
        per_epoch = -(-round(ratio * num_images) // args.batch_size)
        epochs = max(1, round(steps / per_epoch))
        return FineTune(label_ratio=ratio, epochs=epochs, batch_size=args.batch_size, **shared)

    semi = {
        **shared,
        "label_ratio": PART[part],
        "epochs": args.epochs,
        "steps_per_epoch": args.steps_per_epoch,
        "batch_size": args.batch_size,
    }
    yield BASELINE, finetune(PART[part])
    yield "all labels", finetune(1.0)
    if part == "semisup":
        for method in ("mixmatch", "remixmatch", "fixmatch", "flexmatch"):
            yield method, SemiSupervised(method=method, **semi)
        return
    yield "fixmatch", SemiSupervised(method="fixmatch", **semi)
    teacher = max(1, round(steps / -(-round(PART[part] * num_images) // 64)))
    yield "self_training", OpenSemi(method="self_training", teacher_epochs=teacher, **semi)
    yield "openmatch", OpenSemi(method="openmatch", start_epoch=max(1, args.epochs // 4), **semi)


def run(part: str, args: argparse.Namespace, places: dict[str, str], encoder: str) -> dict[str, list[dict[str, Any]]]:
    """Evaluate every arm with every seed."""
    num_images = len(pipeline.open_images(places["train"]))
    found: dict[str, list[dict[str, Any]]] = {}
    for seed in args.seeds:
        for name, task in arms(part, args, num_images, seed):
            out = args.work / part / f"{name.replace(' ', '_')}-seed{seed}"
            began = time.monotonic()
            if (out / "metrics.json").exists():
                report, seconds = Report.load(out), None
            else:
                more = {"unlabelled": places["foreign"]} if part == "opensemi" and task.takes_unlabelled else {}
                report = pipeline.evaluate(
                    task,
                    encoder,
                    train=places["train"],
                    test=places["test"],
                    image_size=args.image_size,
                    out=out,
                    quiet=True,
                    **more,
                )
                seconds = round(time.monotonic() - began, 1)
            told = ("num_labels", "num_unlabelled", "num_unlabelled_added", "num_inliers", "num_inliers_added")
            figures = {name: report.details[name] for name in told if name in report.details}
            line = {"seed": seed, "top1": round(report.metrics["top1"], 2), **figures, "seconds": seconds}
            found.setdefault(name, []).append(line)
            print(part, name, line, file=sys.stderr, flush=True)
    return found


def table(found: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Mean and spread over seeds, and what each arm gains over the labels alone with the same seed."""
    base = [line["top1"] for line in found[BASELINE]]
    rows = {}
    for name, lines in found.items():
        top1 = [line["top1"] for line in lines]
        gains = [round(one - other, 2) for one, other in zip(top1, base, strict=True)]
        spread = round(statistics.stdev(top1), 2) if len(top1) > 1 else None
        rows[name] = {"top1": round(statistics.mean(top1), 2), "std": spread, "gain": gains}
        rows[name]["wins"] = min(gains) > 0
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Tiny-ImageNet as Parquet, with targets.json")
    parser.add_argument("--work", type=Path, default=Path("runs/semisup"), help="folder for everything made")
    parser.add_argument("--target", default="pets")
    parser.add_argument("--parts", nargs="+", default=list(PART), choices=list(PART))
    parser.add_argument("--encoder", help="RUN that every arm begins with (default: SimCLR on X)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--per-class", type=int, default=100)
    parser.add_argument("--backbone", default="resnet10")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--pretrain-steps", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--steps-per-epoch", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.03)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="result file (default: results/semisup-TARGET.json)")
    args = parser.parse_args()
    args.data = args.data.resolve()
    warnings.simplefilter("ignore", SimcoreWarning)
    began = time.monotonic()
    places = sources(args)
    encoder = backbone(args, places["train"])
    found = {part: run(part, args, places, encoder) for part in args.parts}
    result = {
        "what": (__doc__ or "").partition("\n")[0],
        "settings": {k: v for k, v in vars(args).items() if k not in ("data", "work", "out")},
        "machine": machine.describe(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() and args.device != "cpu" else "cpu",
        "tables": {part: table(lines) for part, lines in found.items()},
        "runs": found,
        "minutes": round((time.monotonic() - began) / 60, 1),
    }
    out = args.out or RESULTS / f"semisup-{args.target}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["tables"], indent=1))


if __name__ == "__main__":
    main()
