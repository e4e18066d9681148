"""What selection costs: against the published way of doing it, against one plain pass, and at sizes it must bear.

Cases, each in processes of its own so that peak memory is that of the case:

    peel    the peel of given similarities against deques and full argsorts, as published; same picks, asserted
    pass    `select` from a store against one pass of the same product over the same files, in turns; once more without
            the screen, which pays on features like these, whose target lies near few directions, and not on all
    every   every target row its own centroid
    large   ten million rows

    python benchmarks/selection/speed.py --work /tmp/selection-speed [--cases peel pass every large]

Features are made from a seed: 200 clusters in 64 dimensions, mapped to D and rectified, as a ResNet's are.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
import machine

RESULT = Path(__file__).parents[1] / "results" / "selection_speed.json"
NUM_POOL, NUM_TARGET, NUM_CLUSTERS = 1_281_167, 6_667, 100
BUDGETS = {"1%": 12_811, "50|X|": 50 * NUM_TARGET}
ROWS_AT_ONCE = 16_384


def draw(rng: np.random.Generator, num: int, dim: int, classes: int) -> np.ndarray:
    fixed = np.random.default_rng(1)
    centres = fixed.standard_normal((200, 64), dtype=np.float32)
    basis = fixed.standard_normal((64, dim), dtype=np.float32) / 8
    points = centres[rng.integers(0, classes, num)] + rng.standard_normal((num, 64), dtype=np.float32)
    noise = np.float32(0.3) * rng.standard_normal((num, dim), dtype=np.float32)
    return np.maximum(points @ basis + noise + np.float32(0.2), 0).astype(np.float16)


def make_store(place: Path, num: int, dim: int, classes: int, seed: int) -> Path:
    """Write a store as `simcore embed` leaves it, in parts of 131,072 rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if (place / "store.json").is_file():
        return place
    from simcore.artifacts.embeddings import ROWS_SCHEMA

    place.mkdir(parents=True, exist_ok=True)
    rng, parts = np.random.default_rng(seed), []
    for first in range(0, num, 1 << 17):
        rows = min(1 << 17, num - first)
        parts.append(f"features-{len(parts):05d}.npy")
        part = np.lib.format.open_memmap(place / parts[-1], mode="w+", dtype=np.float16, shape=(rows, dim))
        for start in range(0, rows, ROWS_AT_ONCE):
            stop = min(start + ROWS_AT_ONCE, rows)
            part[start:stop] = draw(rng, stop - start, dim, classes)
    numbers = pa.array(np.arange(num))
    names = numbers.cast(pa.string())
    columns = [numbers, names, names, pa.nulls(num, pa.int64()), pa.nulls(num, pa.int32()), pa.nulls(num, pa.int32())]
    pq.write_table(pa.Table.from_arrays(columns, schema=ROWS_SCHEMA), place / "rows.parquet")
    info = {"format": 1, "complete": True, "dim": dim, "num_rows": num, "parts": parts, "classes": []}
    (place / "store.json").write_text(json.dumps({**info, "fingerprint": f"speed-{num}-{dim}-{seed}"}))
    return place


def deques_and_argsorts(similarity: np.ndarray, budget: int) -> set[int]:
    """The published way: a full descending order of every row in a deque, popped one entry at a time."""
    queues = [deque(np.argsort(-row)) for row in similarity]
    chosen: set[int] = set()
    while len(chosen) < budget:
        found: dict[int, float] = {}
        for row, queue in zip(similarity, queues, strict=True):
            index = queue.popleft()
            while index in chosen:
                index = queue.popleft()
            found[index] = max(float(row[index]), found.get(index, -np.inf))
        best = sorted(found, key=lambda index: (-found[index], index))
        chosen.update(best[: budget - len(chosen)])
    return chosen


def resident_mb(*, peak: bool) -> float:
    """Read the process's memory now, or its peak since :func:`forget_peak`."""
    name = "VmHWM" if peak else "VmRSS"
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def peel_child(args: argparse.Namespace) -> dict[str, Any]:
    """Time one way of peeling; memory is what it adds to the matrix at hand."""
    from simcore.selection import peel

    similarity = np.load(args.matrix)
    peel(similarity[:2, :1000], budget=10)
    forget_peak()
    before = resident_mb(peak=False)
    began, busy = time.perf_counter(), time.process_time()
    if args.way == "peel":
        rows = peel(similarity, budget=args.budget).indices
    else:
        rows = np.fromiter(deques_and_argsorts(similarity, args.budget), np.int64)
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    extra = resident_mb(peak=True) - before
    np.save(args.picks, np.sort(rows))
    return {"seconds": seconds, "cpu_seconds": busy, "extra_mb": extra}


def plain_pass(pool: Any, centroids: np.ndarray) -> None:
    """Multiply every row with every centroid, tile by tile in threads, and keep nothing."""
    import torch

    from simcore.selection._threads import one_thread_each, threaded

    blocks = [block for _, block in pool.features.blocks((1 << 21) // pool.dim)]

    def multiply(block: np.ndarray) -> None:
        rows = np.empty(block.shape, np.float32)
        torch.from_numpy(rows).copy_(torch.from_numpy(block))
        centroids @ rows.T

    with one_thread_each():
        for _ in threaded(multiply, blocks):
            pass


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Give seconds by the clock, seconds of processor time over all threads, and the answer."""
    began, busy = time.perf_counter(), time.process_time()
    answer = work()
    return time.perf_counter() - began, time.process_time() - busy, answer


def pass_child(args: argparse.Namespace) -> dict[str, Any]:
    """Take turns between plain passes and whole selections of the same store."""
    import simcore.selection._similarity as similarity_module
    import simcore.selection.simcore as simcore_module
    from simcore.artifacts import Embeddings
    from simcore.selection import SimCore, kmeans

    screens = {"select": similarity_module.screen_that_pays, "select without screen": lambda *_: None}
    target = Embeddings.load(args.target)
    began = time.perf_counter()
    groups = kmeans(np.asarray(target.features), NUM_CLUSTERS, num_restarts=1)
    clustering = time.perf_counter() - began
    simcore_module.kmeans = lambda *_, **__: groups  # k-means on the target is timed by itself
    turns: dict[str, list[tuple[float, float, Any]]] = {"plain": [], **{name: [] for name in screens}}
    for _ in range(args.turns):
        pool = Embeddings.load(args.pool)
        turns["plain"].append(timed(lambda pool=pool: plain_pass(pool, groups.centroids)))
        for name, screen in screens.items():
            similarity_module.screen_that_pays = screen
            fresh = Embeddings.load(args.pool)
            turns[name].append(timed(lambda fresh=fresh: SimCore().select(target, fresh, budget=args.budget)))
    kinds = enumerate(("seconds", "cpu_seconds"))
    times = {kind: {name: [turn[at] for turn in some] for name, some in turns.items()} for at, kind in kinds}
    ratios = {
        f"ratio_of_best_{kind}": {name: min(found[name]) / min(found["plain"]) for name in screens}
        for kind, found in times.items()
    }
    chosen = [turns[name][-1][2] for name in screens]
    assert np.array_equal(chosen[0].indices, chosen[1].indices)
    return {
        **times,
        **ratios,
        "kmeans_one_restart_seconds": clustering,
        "num_rounds": int(chosen[0].rounds[-1]),
    }


def select_child(args: argparse.Namespace) -> dict[str, Any]:
    """One selection from a store; memory is the peak of the whole process."""
    from simcore.artifacts import Embeddings
    from simcore.selection import SimCore

    began = time.perf_counter()
    chosen = SimCore(num_clusters=args.num_clusters, num_restarts=1).select(
        Embeddings.load(args.target), Embeddings.load(args.pool), budget=args.budget
    )
    return {
        "seconds": time.perf_counter() - began,
        "num_rounds": int(chosen.rounds[-1]),
        "peak_rss_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def child(kind: str, **options: Any) -> dict[str, Any]:
    flags = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    command = [sys.executable, __file__, "--child", kind, *flags]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    answer: dict[str, Any] = json.loads(out.splitlines()[-1])
    print(kind, options, json.dumps(answer), flush=True)
    return answer


def run_peel(work: Path) -> dict[str, Any]:
    place = work / "similarity.npy"
    if not place.is_file():
        rng = np.random.default_rng(0)
        target = draw(rng, NUM_CLUSTERS, 512, 12).astype(np.float32)
        target /= np.linalg.norm(target, axis=1, keepdims=True)
        matrix = np.empty((NUM_CLUSTERS, NUM_POOL), np.float32)
        for first in range(0, NUM_POOL, ROWS_AT_ONCE):
            rows = draw(rng, min(ROWS_AT_ONCE, NUM_POOL - first), 512, 200).astype(np.float32)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            matrix[:, first : first + len(rows)] = target @ rows.T
        np.save(place, matrix)
    answer: dict[str, Any] = {}
    for name, budget in BUDGETS.items():
        picks = {way: work / f"picks-{way}.npy" for way in ("peel", "literal")}
        ways = {way: child("peel", matrix=place, way=way, budget=budget, picks=picks[way]) for way in picks}
        assert np.array_equal(*(np.load(path) for path in picks.values()))
        speedup = {kind: ways["literal"][kind] / ways["peel"][kind] for kind in ("seconds", "cpu_seconds")}
        memory = ways["peel"]["extra_mb"] / ways["literal"]["extra_mb"]
        answer[name] = {"budget": budget, **ways, "times_faster": speedup, "share_of_memory": memory}
    return answer


def run_pass(work: Path) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    for dim in (512, 2048):
        target = make_store(work / f"target-{dim}", NUM_TARGET, dim, 12, 2)
        pool = make_store(work / f"pool-{dim}", NUM_POOL, dim, 200, 3)
        for name, budget in BUDGETS.items():
            answer[f"D={dim}, {name}"] = child("pass", target=target, pool=pool, budget=budget, turns=4)
    return answer


def run_every(work: Path) -> dict[str, Any]:
    target = make_store(work / "target-512", NUM_TARGET, 512, 12, 2)
    pool = make_store(work / "pool-512", NUM_POOL, 512, 200, 3)
    return child("select", target=target, pool=pool, budget=BUDGETS["50|X|"], num_clusters=NUM_TARGET)


def run_large(work: Path) -> dict[str, Any]:
    target = make_store(work / "target-512", NUM_TARGET, 512, 12, 2)
    pool = make_store(work / "pool-large", 10_000_000, 512, 200, 4)
    return child("select", target=target, pool=pool, budget=100_000, num_clusters=NUM_CLUSTERS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("/tmp/selection-speed"))
    parser.add_argument("--cases", nargs="+", choices=sorted(CASES), default=sorted(CASES))
    parser.add_argument("--child", choices=sorted(CHILDREN))
    for flag in ("matrix", "way", "picks", "target", "pool"):
        parser.add_argument(f"--{flag}")
    for flag in ("budget", "turns", "num-clusters"):
        parser.add_argument(f"--{flag}", type=int)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(CHILDREN[args.child](args)))
        return
    args.work.mkdir(parents=True, exist_ok=True)
    found = json.loads(RESULT.read_text())["cases"] if RESULT.is_file() else {}
    for name in args.cases:
        found[name] = {**CASES[name](args.work), "load_average": os.getloadavg()[0]}
        command = f"python benchmarks/selection/speed.py --cases {name}"
        found[name]["command"] = command
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps({"machine": machine.describe(), "cases": found}, indent=2) + "\n")


CASES = {"peel": run_peel, "pass": run_pass, "every": run_every, "large": run_large}
CHILDREN = {"peel": peel_child, "pass": pass_child, "select": select_child}

if __name__ == "__main__":
    main()
