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
import sys
from typing import Any

from _labels import Lines, arguments, evaluated, in_order, jobs, measure, table

from simcore.tasks.weblysup import WeblySupervised

BASELINE = "plain"


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


def run(
    noise: float, method: str, seed: int, args: argparse.Namespace, places: dict[str, str], encoder: str
) -> dict[str, Any]:
    """Evaluate one method with one seed."""
    out = args.work / f"noise{noise:g}" / f"{method}-seed{seed}"
    report, seconds = evaluated(args, task_of(method, noise, seed, args), places, encoder, out)
    line = {"seed": seed, "top1": round(report.metrics["top1"], 2), "seconds": seconds}
    if "top1_ensemble" in report.metrics:
        line["ensemble"] = round(report.metrics["top1_ensemble"], 2)
        line |= {name: round(value, 1) for name, value in report.details["held_clean"][0].items()}
    print(noise, method, line, file=sys.stderr, flush=True)
    return line


def run_all(args: argparse.Namespace, places: dict[str, str], encoder: str) -> dict[str, Any]:
    """Evaluate every method with every seed at every noise."""
    methods = list(dict.fromkeys((BASELINE, *args.methods)))
    tasks = [
        (noise, method, seed, args, places, encoder)
        for seed in args.seeds
        for noise in args.noise
        for method in methods
    ]
    found: dict[str, Lines] = {f"{noise:g}": {method: [] for method in methods} for noise in args.noise}
    for (noise, method, *_), line in jobs.finished(run, tasks, args.jobs):
        found[f"{noise:g}"][method].append(line)
    in_order(line for lines in found.values() for line in lines.values())
    return {"tables": {noise: table(lines, BASELINE) for noise, lines in found.items()}, "runs": found}


def main() -> None:
    parser = arguments("weblysup", __doc__, epochs=30)
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0, 0.2, 0.4])
    parser.add_argument("--methods", nargs="+", default=["coteaching", "dividemix"])
    parser.add_argument("--unlabelled-weight", type=float, default=75.0)
    args = parser.parse_args()
    measure("weblysup", __doc__, args, lambda places, encoder: run_all(args, places, encoder))


if __name__ == "__main__":
    main()
