"""Which labels to buy? Accuracy against the number of labels for every acquisition of ``active``.

X is the first 100 train images of each class of a fine-grained group of Tiny-ImageNet, the test set its validation
images. Every arm begins with one backbone (SimCLR on X, no labels), buys equally many labels a round and trains
equally long; the first round's labels are the same for all arms of a seed. ``gain`` is the mean accuracy over the
rounds after the first less that of random picks with the same seed. Finished runs in ``--work`` are not redone.

    python benchmarks/tasks/active.py --data DIR
"""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import Any

from _labels import Lines, arguments, evaluated, gained, in_order, jobs, mean_and_spread, measure

from simcore.tasks.active import ActiveLearning

BASELINE = "random"


def task_of(acquisition: str, seed: int, args: argparse.Namespace) -> ActiveLearning:
    return ActiveLearning(
        acquisition=acquisition,
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


def run(name: str, seed: int, args: argparse.Namespace, places: dict[str, str], encoder: str) -> dict[str, Any]:
    """Evaluate one acquisition with one seed."""
    report, seconds = evaluated(args, task_of(name, seed, args), places, encoder, args.work / f"{name}-seed{seed}")
    rounds = report.details["rounds"]
    line = {
        "seed": seed,
        "num_labels": [r["num_labels"] for r in rounds],
        "top1": [round(r["metrics"]["top1"], 2) for r in rounds],
        "num_classes_seen": [r["num_classes_seen"] for r in rounds],
        "seconds": seconds,
    }
    print(name, line, file=sys.stderr, flush=True)
    return line


def run_all(args: argparse.Namespace, places: dict[str, str], encoder: str) -> dict[str, Any]:
    """Evaluate every acquisition with every seed."""
    names = list(dict.fromkeys((BASELINE, *args.acquisitions)))
    found: Lines = {name: [] for name in names}
    tasks = [(name, seed, args, places, encoder) for seed in args.seeds for name in names]
    for (name, *_), line in jobs.finished(run, tasks, args.jobs):
        found[name].append(line)
    in_order(found.values())
    return {"table": table(found), "runs": found}


def means(lines: list[dict[str, Any]]) -> list[float]:
    """Give each seed's mean accuracy over the rounds after the first."""
    return [statistics.mean(line["top1"][1:] or line["top1"]) for line in lines]


def table(found: Lines) -> dict[str, dict[str, Any]]:
    """Mean and spread over seeds by number of labels, and what each acquisition gains over random picks."""
    base = means(found[BASELINE])
    rows = {}
    for name, lines in found.items():
        columns = zip(lines[0]["num_labels"], *(line["top1"] for line in lines), strict=True)
        curve = {str(num): mean_and_spread(values) for num, *values in columns}
        rows[name] = {"by_num_labels": curve, **gained(means(lines), base)}
    return rows


def main() -> None:
    parser = arguments("active", __doc__, epochs=30)
    parser.add_argument("--acquisitions", nargs="+", default=["entropy", "coreset", "badge"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--budget", default="5%")
    parser.add_argument("--frozen", action="store_true", help="train a head on frozen features instead")
    args = parser.parse_args()
    measure("active", __doc__, args, lambda places, encoder: run_all(args, places, encoder))


if __name__ == "__main__":
    main()
