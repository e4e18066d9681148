"""Which selector finds most of what the target wants: precision, spread over classes, objective and time of each.

The protocol: X is the first 100 train images of each class of a fine-grained target of Tiny-ImageNet, U every other
train image; a second pool adds CIFAR-10. Labels are used for nothing but the figures. A store holds the features of
all of Tiny-ImageNet's train images by one encoder, as `simcore embed` leaves it; CIFAR-10's is a second store.

    python benchmarks/selection/study.py --data DIR --stores NAME=STORE [NAME=STORE ...] [--cifar NAME=STORE ...]

DIR holds targets.json. NAME is an encoder's; several stores also make an ensemble; `{target}` in STORE stands for the
target's name. `encoders.py` makes such stores. Each pick order is cut at all budgets, since a smaller budget is a
prefix. What the result file holds already is kept; remove the file to measure anew.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from _protocol import BUDGETS, Task, named, wanted_classes

import machine
from simcore.artifacts import Selection
from simcore.selection import (
    DensityRatio,
    FacilityLocation,
    KCenter,
    LinearClassifier,
    Oracle,
    Random,
    SimCore,
    Top,
    select_coreset,
)

RESULT = Path(__file__).parents[1] / "results" / "selection_study.json"

SELECTORS: dict[str, Any] = {
    "random": Random(),
    "random by class": Random(by_class=True),
    "oracle": Oracle(),
    "simcore": SimCore(),
    "simcore, every x": SimCore(num_clusters=1_000_000),
    "simcore, whitened": SimCore(whiten=True),
    "simcore, every x, whitened": SimCore(num_clusters=1_000_000, whiten=True),
    "facility_location": FacilityLocation(),
    "facility_location, whitened": FacilityLocation(whiten=True),
    "top": Top(),
    "top, whitened": Top(whiten=True),
    "k_center": KCenter(),
    "density_ratio, plain": DensityRatio(whiten=False),
    "density_ratio": DensityRatio(),
    "density_ratio, quota by cluster": DensityRatio(quota="cluster"),
    "density_ratio, quota by x": DensityRatio(quota="x"),
    "linear_classifier": LinearClassifier(),
    "linear_classifier, whitened": LinearClassifier(whiten=True),
    "linear_classifier, quota by cluster": LinearClassifier(quota="cluster"),
}
DEDUPLICATED = {"simcore, deduplicated": SimCore(), "density_ratio, deduplicated": DensityRatio()}
STOPS = {
    "simcore, published stop": SimCore(),
    "simcore, patience 1": SimCore(patience=1),
    "simcore, stop by centroid": SimCore(stop_by="centroid"),
}
WANTED_PRECISION = (0.5, 0.3, 0.2, 0.1)


def measure(task: Task, name: str, choose: Callable[[], Selection], *, whole: bool = False) -> Iterator[dict[str, Any]]:
    """Select once and judge the picks at every budget, or as they are where the selector stops by itself."""
    began = time.perf_counter()
    chosen = choose()
    seconds = round(time.perf_counter() - began, 2)
    for budget in (len(chosen),) if whole else BUDGETS:
        picks = chosen.indices[:budget]
        row = {"selector": name, "budget": len(picks), **task.figures(picks), "covered": task.covered(picks)}
        if whole:
            row |= {"stop_reason": chosen.stop_reason, "stop": chosen.settings.get("stop")}
        yield row | {"seconds": seconds}


def study(task: Task) -> Iterator[dict[str, Any]]:
    target, pool = task.pair
    for name, selector in SELECTORS.items():
        yield from measure(task, name, lambda s=selector: s.select(target, pool, budget=BUDGETS[-1]))
    for name, selector in DEDUPLICATED.items():
        choose = lambda s=selector: select_coreset(s, [task.pair], budget=BUDGETS[-1], deduplicate=0.98)  # noqa: E731
        yield from measure(task, name, choose)
    for name, selector in (STOPS | precision_stops(task.base_rate() / 100)).items():
        yield from measure(task, name, lambda s=selector: s.select(target, pool), whole=True)


def precision_stops(base_rate: float) -> dict[str, Any]:
    """Stops at a wanted precision, with the share of target-like images unknown, and told."""
    known = {"share estimated": None, "share given": base_rate}
    return {
        f"density_ratio, precision {wanted}, {how}": DensityRatio(min_precision=wanted, target_share=share)
        for wanted in WANTED_PRECISION
        for how, share in known.items()
    }


def study_ensemble(tasks: list[Task]) -> Iterator[dict[str, Any]]:
    """Judge by the first encoder's features; picks are of all."""
    pairs = [task.pair for task in tasks]
    for name, selector in {"simcore": SimCore(), "density_ratio": DensityRatio()}.items():
        choose = lambda s=selector: select_coreset(s, pairs, budget=BUDGETS[-1])  # noqa: E731
        yield from measure(tasks[0], f"{name}, ensemble", choose)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with targets.json")
    parser.add_argument("--stores", nargs="+", required=True, metavar="NAME=STORE")
    parser.add_argument("--cifar", nargs="*", default=[], metavar="NAME=STORE")
    parser.add_argument("--targets", nargs="*", help="some of the targets; default: all")
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    wanted = wanted_classes(args.data)
    rows: list[dict[str, Any]] = json.loads(args.out.read_text())["rows"] if args.out.is_file() else []
    known = {(row["target"], row["pool"], row["encoder"]) for row in rows}
    for target in args.targets or wanted:
        stores, cifar = named(args.stores, target), named(args.cifar, target)
        for second in (False, True) if cifar else (False,):
            seen = {
                n: Task(s, cifar.get(n) if second else None, wanted[target])
                for n, s in stores.items()
                if not second or n in cifar
            }
            shared = {"target": target, "pool": "tiny+cifar10" if second else "tiny"}
            for name, task in seen.items():
                if (*shared.values(), name) in known:
                    continue
                about = shared | {"encoder": name, "base_rate": task.base_rate()}
                rows += (show(about | row) for row in study(task))
                write(args, rows)
            if len(seen) > 1 and (*shared.values(), "+".join(seen)) not in known:
                rows += (
                    show(shared | {"encoder": "+".join(seen)} | row) for row in study_ensemble(list(seen.values()))
                )
                write(args, rows)


def show(row: dict[str, Any]) -> dict[str, Any]:
    """Print a row as it comes."""
    print(
        "{target:9} {pool:12} {encoder:16} {selector:44} B={budget:6d} precision {precision:6.2f} "
        "classes {classes:5.2f} covered {covered:.4f} {seconds:7.2f} s".format(**row),
        flush=True,
    )
    return row


def write(args: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    command = "python benchmarks/selection/study.py --data DIR --stores " + " ".join(
        f"{value.partition('=')[0]}=STORE" for value in args.stores
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine.describe(), "command": command, "budgets": BUDGETS, "rows": rows}
    args.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
