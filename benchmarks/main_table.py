"""The paper's main table in small: is a coreset worth more than the target alone, a random part, the whole pool?

Each target X is the first few train images of each class of a fine-grained group of Tiny-ImageNet; the pool U is every
other train image; kNN and linear probe know the labels of the first 100 of each class and are asked the validation
images. X is small on purpose: the published runs pass thousands of times over X, and few steps do that over few images
only. Every arm trains one backbone by one SSL method for equally many steps, and chooses with one retrieval model,
trained by SimCLR on X. Arms with a budget have the same one, but for the published stop, which ends by itself. Labels
are used for the figures and the oracle alone. All of it is a recipe for `simcore run`, written to ``--work``; finished
stages are kept, and the result file is renewed after each run, so that a table may grow from session to session.

With --held-out N, U goes without the last N train images of each class, and those of the target's classes are the test
set: it is larger than the validation images are.

    python benchmarks/main_table.py --data DIR
    python benchmarks/main_table.py --data DIR --targets vehicles --per-class 20 --held-out 100 --steps 3000 \\
        --backbone test_resnet --image-size 32 --precision 32 --out benchmarks/results/main_table-long.json
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parent))
import jobs
import machine
import tiny_imagenet
from fine_grained import precision
from simcore.artifacts import Report, Selection
from simcore.errors import SimcoreWarning
from simcore.recipe import Layout, Recipe
from tiny_imagenet import Group

RESULT = Path(__file__).parent / "results" / "main_table.json"
SETTINGS = ("backbone", "image_size", "batch_size", "steps", "precision", "budget")
TRAIN_PER_CLASS = 300  # images that the data at hand have of each class
METRICS = {"knn": "top1_k20", "linear": "top1"}
# What is not the methods' own: a width that a CPU cannot carry, and a temperature for few negatives.
METHODS: dict[str, dict[str, Any]] = {"simclr": {"temperature": 0.2}, "byol": {"hidden_dim": 1024}}


def arms(budget: int) -> dict[str, Any]:
    """Every line of the table, by the name that it has there."""
    fixed = {"budget": budget}
    return {
        "X": "target",
        "U": {"selector": "random", "budget": "100%", "alone": True},
        "X+random": {"selector": "random", **fixed},
        "X+simcore-stop": {"selector": "simcore", "num_clusters": 100},
        "X+simcore": {"selector": "simcore", "num_clusters": 100, **fixed},
        "X+density_ratio": {"selector": "density_ratio", **fixed},
        "X+facility_location": {"selector": "facility_location", **fixed},
        "X+oracle": {"selector": "oracle", **fixed},
    }


def recipe_of(args: argparse.Namespace, target: str, group: Group, method: str) -> Recipe:
    """Write one target's recipe and read it back; methods have the same retrieval model, by settings and seed."""
    training = {
        "backbone": args.backbone,
        "image_size": args.image_size,
        "batch_size": args.batch_size,
        "optimizer": "adam",  # the published SGD needs larger batches and thousands of epochs
        "lr": 1e-3,
        "max_steps": args.steps,
        "num_workers": 0,
        "tensorboard": False,
        "probe_every": 0,
        "precision": args.precision,
    }
    pool, test = pool_and_test(group, args.held_out)
    tree = {
        "target": group.target,
        "pool": pool,
        "train": dataclasses.replace(group, per_class=100).target,
        "test": test,
        "seeds": args.seeds,
        "retrieval": {"method": "simclr", **METHODS["simclr"], **training},
        "embed": {"num_workers": 0},
        "arms": {name: body for name, body in arms(args.budget).items() if name in args.arms},
        "pretrain": {"method": method, **METHODS[method], **training},
        "evaluate": {"knn": {"k": [20]}, "linear": {}},
    }
    place = args.work / f"{target}-{args.per_class}-{method}.yaml"
    text = yaml.safe_dump(tree, sort_keys=False)
    if not place.is_file() or place.read_text() != text:  # runs side by side read it
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return Recipe.load(place, out=place.with_suffix(""))


def pool_and_test(group: Group, num_held_out: int) -> tuple[str, str]:
    """Give all train images and the validation images of the target's classes, or with some held out those instead."""
    if not num_held_out:
        return group.pool, group.test
    kept = TRAIN_PER_CLASS - num_held_out
    return f"{group.pool}#limit-per-class={kept}", dataclasses.replace(group, per_class=kept).held_out


def share_of_classes(coreset: Path, labels: frozenset[int]) -> dict[str, Any]:
    """Say how many images were chosen, the percentage whose class is one of the target's, and why it ended."""
    chosen = Selection.load(coreset)
    share = round(precision(coreset, labels), 2)
    return {"num_chosen": len(chosen), "precision": share, "stop_reason": chosen.stop_reason}


def row_of(recipe: Recipe, arm: str, seed: int, labels: frozenset[int]) -> dict[str, Any]:
    """Read what one run of one arm came to."""
    layout, row = Layout(recipe.out), {"arm": arm, "seed": seed, "gpu": machine.gpu()}
    for task, metric in METRICS.items():
        row[task] = round(float(Report.load(layout.evaluation(arm, seed, task)).metrics[metric]), 2)
    coreset = layout.coreset(arm, seed)
    return row | (share_of_classes(coreset, labels) if coreset.is_file() else {})


def write(args: argparse.Namespace, found: dict[tuple[str, str], list[dict[str, Any]]]) -> None:
    """Renew the result file; rows of targets, sizes, methods and arms not asked for stay, if made in the same way."""
    settings = {name: getattr(args, name) for name in SETTINGS} | {"methods": METHODS}
    settings |= {"held_out": args.held_out} if args.held_out else {}  # files without say nothing of it
    before = json.loads(args.out.read_text()) if args.out.is_file() else {}
    kept = before["rows"] if before.get("settings") == settings else []
    rows = [
        {"target": target, "per_class": args.per_class, "method": method, **row}
        for (target, method), part in found.items()
        for row in part
    ]
    rows += [row for row in kept if _name(row) not in {_name(new) for new in rows}]
    result = {
        "what": (__doc__ or "").partition("\n")[0],
        "command": f"python benchmarks/main_table.py --data DIR{args.flags}",
        "machine": machine.describe(),
        "settings": settings,
        "rows": sorted(rows, key=_order),
    }
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")


def _name(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("target", "per_class", "method", "arm", "seed"))


def _order(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["method"], row["target"], row["per_class"], row["seed"], list(arms(1)).index(row["arm"])


def run_shared(method: str, target: str, args: argparse.Namespace) -> None:
    """Make what the arms of one target share: the retrieval model and the features."""
    recipe, _ = _recipe(method, target, args)
    for stage in recipe.stages(moved=True):
        if "-seed" not in stage.name:
            _run(stage, recipe, f"{target} {method}")


def run_arm(method: str, target: str, arm: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Choose, train and evaluate one arm with one seed; give its row."""
    recipe, labels = _recipe(method, target, args)
    for stage in recipe.stages(moved=True):
        if f"-{arm}-seed{seed}-" in f"{stage.name}-":
            _run(stage, recipe, f"{target} {method}")
    return row_of(recipe, arm, seed, labels)


def _recipe(method: str, target: str, args: argparse.Namespace) -> tuple[Recipe, frozenset[int]]:
    warnings.simplefilter("ignore", SimcoreWarning)
    group = tiny_imagenet.groups(args.data, per_class=args.per_class)[target]
    return recipe_of(args, target, group, method), group.labels


def _run(stage: Any, recipe: Recipe, of: str) -> None:
    began = time.monotonic()
    stage.run(recipe.out)
    print(f"{of} {stage.name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def changed(parser: argparse.ArgumentParser, args: argparse.Namespace) -> str:
    """Write the flags that decide what a row comes to, where they are not the defaults."""
    names = [name for name in (*SETTINGS, "per_class", "held_out") if getattr(args, name) != parser.get_default(name)]
    return "".join(f" --{name.replace('_', '-')} {getattr(args, name)}" for name in names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tiny_imagenet.add_flag(parser)
    parser.add_argument("--work", type=Path, default=Path("runs/main_table"), help="folder for everything made")
    parser.add_argument("--targets", nargs="+", default=["vehicles", "pets", "food"])
    parser.add_argument("--methods", nargs="+", default=["simclr"], choices=sorted(METHODS))
    parser.add_argument("--arms", nargs="+", default=list(arms(1)), choices=list(arms(1)))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--per-class", type=int, default=5, help="images of X a class")
    parser.add_argument("--backbone", default="resnet10")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--precision", default="bf16-mixed", help="bf16 makes a step a quarter shorter here")
    parser.add_argument("--budget", type=int, default=2000)
    parser.add_argument("--held-out", type=int, default=0, help="train images a class that are the test set")
    parser.add_argument("--out", type=Path, default=RESULT)
    jobs.add_flag(parser)
    args = parser.parse_args()
    args.work, args.flags = args.work.resolve(), changed(parser, args)
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    pairs = [(method, target) for method in args.methods for target in args.targets]
    for _ in jobs.finished(run_shared, [(*pair, args) for pair in pairs], args.jobs):
        pass
    tasks = [(*pair, arm, seed, args) for seed in args.seeds for pair in pairs for arm in args.arms]
    for (method, target, *_), row in jobs.finished(run_arm, tasks, args.jobs):
        found.setdefault((target, method), []).append(row)
        write(args, found)


if __name__ == "__main__":
    main()
