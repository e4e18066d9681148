"""Selection against the field, at equal budget on equal features: precision, spread, objective, time and memory.

Peers (`_field.py` says what of each is confirmed and what is a reading): submodlib's facility location and FL2MI,
BloomCoreset, and hierarchical k-means with balanced sampling. Targets, pool and figures are those of `study.py`.

    python benchmarks/selection/peers.py --data DIR --stores x-ssl=STORE [--targets vehicles pets]

`{target}` in STORE stands for the target's name; `encoders.py` makes such stores. submodlib is `pip install
submodlib-py`. Each arm is a process of its own with one thread; it first runs on a small part, so that imports count
for neither time nor memory. Memory is what the arm adds to features at hand. Finished arms are kept; remove the file to
measure anew.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
import _field
from _protocol import BUDGETS, Task, named, wanted_classes
from speed import forget_peak, resident_mb

import machine
from simcore.artifacts import Embeddings
from simcore.selection import (
    DensityRatio,
    FacilityLocation,
    KCenter,
    LinearClassifier,
    Random,
    SimCore,
    Top,
)

RESULT = Path(__file__).parents[1] / "results" / "selection_peers.json"
SEED = 0
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


@dataclasses.dataclass(frozen=True)
class Chosen:
    """Picks for each budget, and what else there is to say."""

    picks: list[np.ndarray]
    notes: dict[str, Any]


Arm = Callable[[Embeddings, Embeddings, Sequence[int]], Chosen]


def ours(selector: Any) -> Arm:
    """One of our selectors: a smaller budget is a prefix."""

    def choose(target: Embeddings, pool: Embeddings, budgets: Sequence[int]) -> Chosen:
        found = selector.select(target, pool, budget=budgets[-1])
        return Chosen([found.indices[:budget] for budget in budgets], {})

    return choose


def ranked(peer: Callable[..., tuple[np.ndarray, dict[str, Any]]]) -> Arm:
    """Wrap a peer that gives an order.

    It sees the pool in a random order: the target takes the first images of its classes, so among the first rows there
    are none of them, and a peer that breaks ties by row would gain from that.
    """

    def choose(target: Embeddings, pool: Embeddings, budgets: Sequence[int]) -> Chosen:
        order = np.random.default_rng(SEED).permutation(len(pool))
        picks, notes = peer(units(target), units(pool.take(order)), budgets[-1])
        return Chosen([order[picks[:budget]] for budget in budgets], notes)

    return choose


def curated(*, near_target: bool) -> Arm:
    """Hierarchical k-means of the pool; each budget is drawn by itself from the same tree."""

    def choose(target: Embeddings, pool: Embeddings, budgets: Sequence[int]) -> Chosen:
        levels = _field.hierarchical_kmeans(units(pool), seed=SEED)
        allowed = _field.near_clusters(levels, units(target)) if near_target else None
        draws = [_field.balanced_sample(levels, n, np.random.default_rng(SEED), allowed) for n in budgets]
        notes: dict[str, Any] = {"clusters": [len(level.members) for level in levels]}
        return Chosen(draws, notes | ({} if allowed is None else {"clusters_near_target": int(allowed.sum())}))

    return choose


OURS: dict[str, Arm] = {
    "random": ours(Random()),
    "simcore": ours(SimCore()),
    "simcore, every x": ours(SimCore(num_clusters=1_000_000)),
    "facility_location": ours(FacilityLocation()),
    "density_ratio": ours(DensityRatio()),
    "linear_classifier": ours(LinearClassifier()),
    "top": ours(Top()),
    "k_center": ours(KCenter()),
}
PEERS: dict[str, Arm] = {
    "submodlib facility location": ranked(_field.submodlib_facility_location),
    "submodlib FL2MI": ranked(_field.submodlib_fl2mi),
    "BloomCoreset, 512 bits": ranked(_field.bloom_coreset),
    "BloomCoreset, short signature": ranked(_field.bloom_coreset_short),
    "hierarchical k-means, no target": curated(near_target=False),
    "hierarchical k-means, near target": curated(near_target=True),
}
ARMS = OURS | PEERS


def units(features: Embeddings) -> np.ndarray:
    """Unit rows in fp32."""
    rows = np.asarray(features.features, np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def measure(task: Task, name: str) -> list[dict[str, Any]]:
    """Run one arm in this process and judge its picks at every budget."""
    import torch  # noqa: F401 - some arms load it for a large pool only, which would count as theirs

    arm, (target, pool) = ARMS[name], task.pair
    arm(target.take(np.arange(200)), pool.take(np.arange(0, len(pool), len(pool) // 3_000)), (20, 40))
    forget_peak()
    before = resident_mb(peak=False)
    began, busy = time.perf_counter(), time.process_time()
    chosen = arm(target, pool, BUDGETS)
    cost = {
        "seconds": round(time.perf_counter() - began, 2),
        "cpu_seconds": round(time.process_time() - busy, 2),
        "extra_mb": round(resident_mb(peak=True) - before),
    }
    return [
        {"budget": budget, "picked": len(picks), **task.figures(picks), "covered": task.covered(picks)}
        | cost
        | chosen.notes
        for budget, picks in zip(BUDGETS, chosen.picks, strict=True)
    ]


def in_process(data: Path, target: str, store: str, name: str) -> list[dict[str, Any]]:
    """Run one arm in a process of its own."""
    command = [sys.executable, __file__, "--data", str(data), "--stores", store, "--targets", target, "--child", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | ONE_THREAD)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Say for each target, encoder and budget which of ours and which peer is best, and who beats published SimCore."""
    found = []
    for key in dict.fromkeys((row["target"], row["encoder"], row["budget"]) for row in rows):
        here = [row for row in rows if (row["target"], row["encoder"], row["budget"]) == key]
        full = [row for row in here if row["picked"] == row["budget"]]
        line: dict[str, Any] = dict(zip(("target", "encoder", "budget"), key, strict=True))
        for figure in ("precision", "covered"):
            sides = {side: [row for row in full if row["side"] == side] for side in ("ours", "peer")}
            best = {side: max(known, key=lambda row: row[figure]) for side, known in sides.items() if known}
            line[figure] = {side: [row["selector"], row[figure]] for side, row in best.items()}
        published = next((row["precision"] for row in full if row["selector"] == "simcore"), 100.0)
        above = [row for row in full if row["side"] == "peer" and row["precision"] > published]
        line["peers_more_precise_than_simcore"] = [row["selector"] for row in above]
        line["short_of_budget"] = [row["selector"] for row in here if row["picked"] < row["budget"]]
        found.append(line)
    return found


def show(row: dict[str, Any]) -> None:
    print(
        "{target:9} {encoder:7} {selector:34} B={budget:6d} ({picked:6d}) precision {precision:6.2f} "
        "classes {classes:5.2f} covered {covered:.4f} {cpu_seconds:8.2f} s {extra_mb:6.0f} MB".format(**row),
        flush=True,
    )


def submodlib_version() -> str | None:
    try:
        return importlib.metadata.version("submodlib-py")
    except importlib.metadata.PackageNotFoundError:
        return None


def write(args: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    given = " ".join(f"{value.partition('=')[0]}=STORE" for value in args.stores)
    content = {
        "machine": machine.describe() | {"submodlib-py": submodlib_version()},
        "command": f"python benchmarks/selection/peers.py --data DIR --stores {given}",
        "settings": {"threads": 1, "seed": SEED, "budgets": BUDGETS, "runs": 1},
        "note": "One draw each. `cpu_seconds` is the time to compare where other work keeps the cores busy. "
        "`covered`: facility location per x. An arm that gives fewer than the budget is left out of the summary. "
        "Memory of peers holds a copy of the features in fp32, 2,048 bytes a row.",
        "summary": summary(rows),
        "rows": rows,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(content, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with targets.json")
    parser.add_argument("--stores", nargs="+", required=True, metavar="NAME=STORE")
    parser.add_argument("--targets", nargs="+", default=["vehicles", "pets"])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), metavar="ARM")
    parser.add_argument("--child", choices=ARMS, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    if importlib.util.find_spec("submodlib") is None and any("submodlib" in arm for arm in args.arms):
        parser.error("two arms need submodlib (`pip install submodlib-py`); name others with --arms to do without")
    warnings.simplefilter("ignore")
    wanted = wanted_classes(args.data)
    if args.child:
        (store,) = named(args.stores, args.targets[0]).values()
        print(json.dumps(measure(Task(store, None, wanted[args.targets[0]]), args.child)))
        return
    rows: list[dict[str, Any]] = json.loads(args.out.read_text())["rows"] if args.out.is_file() else []
    known = {(row["target"], row["encoder"], row["selector"]) for row in rows}
    for target, store, name in itertools.product(args.targets, args.stores, args.arms):
        about = {"target": target, "encoder": store.partition("=")[0], "selector": name}
        if tuple(about.values()) in known:
            continue
        for figures in in_process(args.data, target, store, name):
            rows.append(about | {"side": "ours" if name in OURS else "peer"} | figures)
            show(rows[-1])
        write(args, rows)
    write(args, rows)


if __name__ == "__main__":
    main()
