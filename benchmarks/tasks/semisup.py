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
import sys
from collections.abc import Iterator
from typing import Any

from _labels import Lines, arguments, evaluated, measure, table

from simcore.images import open_images
from simcore.tasks.finetune import FineTune
from simcore.tasks.opensemi import OpenSemi
from simcore.tasks.semisup import SemiSupervised

BASELINE = "labels alone"
PART = {"semisup": 0.1, "opensemi": 0.5}
TOLD = ("num_labels", "num_unlabelled", "num_unlabelled_added", "num_inliers", "num_inliers_added")


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


def run(part: str, args: argparse.Namespace, places: dict[str, str], encoder: str) -> Lines:
    """Evaluate every arm with every seed."""
    num_images = len(open_images(places["train"]))
    found: Lines = {}
    for seed in args.seeds:
        for name, task in arms(part, args, num_images, seed):
            out = args.work / part / f"{name.replace(' ', '_')}-seed{seed}"
            more = {"unlabelled": places["foreign"]} if part == "opensemi" and task.takes_unlabelled else {}
            report, seconds = evaluated(args, task, places, encoder, out, **more)
            figures = {name: report.details[name] for name in TOLD if name in report.details}
            line = {"seed": seed, "top1": round(report.metrics["top1"], 2), **figures, "seconds": seconds}
            found.setdefault(name, []).append(line)
            print(part, name, line, file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = arguments("semisup", __doc__, epochs=8)
    parser.add_argument("--parts", nargs="+", default=list(PART), choices=list(PART))
    parser.add_argument("--steps-per-epoch", type=int, default=50)
    args = parser.parse_args()

    def run_all(places: dict[str, str], encoder: str) -> dict[str, Any]:
        found = {part: run(part, args, places, encoder) for part in args.parts}
        return {"tables": {part: table(lines, BASELINE) for part, lines in found.items()}, "runs": found}

    measure("semisup", __doc__, args, run_all)


if __name__ == "__main__":
    main()
