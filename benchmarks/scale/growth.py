"""How time and memory of embed, select and export grow with the number of images, and what 10^9 would take.

    python benchmarks/scale/growth.py [--stages embed export select ray] [--work runs/scale]

embed: N small made JPEGs in tar shards into a store (ResNet-10 at 32 px, decoding in the same process)
export: N of them in the order of a selection, into tar shards
select: SimCore, K = 100, 1 % of N made features (D = 128, fp16) from a store with names as real ones are
ray: embed and select again with `--engine ray` and 1 and 2 workers

Each measure is a process of its own with one thread, warmed up on a small part first; Ray's is that which commands, and
the start of its workers counts. Features are those of `selection/speed.py`. What is made stays in the work folder, some
4 GB. What the result file holds already is kept; remove it to measure anew. `docs/images/scale.svg` is drawn from it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.extend(str(Path(__file__).parents[1] / place) for place in ("scale", "selection", ""))
from _loglog import Panel, Series, draw, fixed_and_each, power_law
from _made import DIM, NUM_TARGET, SIDE, make_features, make_images
from speed import draw as draw_features
from speed import forget_peak, resident_mb

import machine

BENCHMARKS = Path(__file__).parents[1]
RESULT = BENCHMARKS / "results" / "scale.json"
PLOT = BENCHMARKS.parent / "docs" / "images" / "scale.svg"
IMAGE_SIZES = (10_000, 20_000, 50_000, 100_000)
ROW_SIZES = (10_000, 31_623, 100_000, 316_228, 1_000_000, 3_162_278, 10_000_000)
RAY_WORKERS = (1, 2)
ENCODER, SHARE = "timm:resnet10@random", "1%"
LIMIT = 10**9
AT_LIMIT = f"at_{LIMIT:.0e}"
LEFT_OUT = (
    "One process with one thread. At 10^9 features do not stay in the page cache as they did here (256 GB at D = 128, "
    "fp16; 4.1 TB at D = 2048), so the disk counts; real images are larger and read from elsewhere; real networks cost "
    "100 times this one; a target, K or D other than here scales the pass of select; names of 10^9 rows do not fit "
    "this machine. Fits are of sizes up to the largest measured and are drawn out by a factor of 100 (select) or "
    "10,000 (embed, export). docs/cluster.md reckons with real images and networks on many machines."
)


def costed(work: Callable[[], Any], turns: int = 1) -> dict[str, float]:
    """Time the best of some turns; memory is that of the first."""
    forget_peak()
    before = resident_mb(peak=False)
    seconds, busy, peak = [], [], 0.0
    for _ in range(turns):
        began, began_cpu = time.perf_counter(), time.process_time()
        work()
        seconds.append(time.perf_counter() - began)
        busy.append(time.process_time() - began_cpu)
        peak = peak or resident_mb(peak=True)
    return {
        "seconds": round(min(seconds), 3),
        "cpu_seconds": round(min(busy), 3),
        "peak_mb": round(peak, 1),
        "extra_mb": round(peak - before, 1),
    }


def embed_child(args: argparse.Namespace, engine: dict[str, Any]) -> dict[str, Any]:
    from simcore import pipeline
    from simcore.embedding import load_encoder

    encoder = load_encoder(ENCODER, device="cpu", image_size=SIDE)
    settings = {"encoder": encoder, "quiet": True, "num_workers": 0 if not engine else None, **engine}
    began = time.perf_counter()
    pipeline.embed(f"{args.source.partition('/{')[0]}/00000.tar#limit=256", **settings)
    starting = {"start_seconds": round(time.perf_counter() - began, 2)} if engine else {}
    with tempfile.TemporaryDirectory(dir=args.work) as out:
        return costed(lambda: pipeline.embed(args.source, out=Path(out) / "store", **settings)) | starting


def export_child(args: argparse.Namespace, _: dict[str, Any]) -> dict[str, Any]:
    from simcore import pipeline
    from simcore.artifacts import Selection
    from simcore.images import open_images

    table = open_images(args.source).table
    order = np.random.default_rng(0).permutation(args.num)
    chosen = Selection(
        indices=order,
        rounds=np.zeros(args.num, np.int32),
        clusters=np.full(args.num, -1, np.int32),
        similarities=np.full(args.num, np.nan, np.float32),
        stop_reason="budget",
        ids=tuple(table["id"].take(order).to_pylist()),
        uris=tuple(table["uri"].take(order).to_pylist()),
    )
    with tempfile.TemporaryDirectory(dir=args.work) as out:
        pipeline.export(open_images(f"{args.source.partition('/{')[0]}/00000.tar"), out=Path(out) / "w", quiet=True)
        return costed(lambda: pipeline.export(chosen, out=Path(out) / "coreset", format="wds", quiet=True))


def select_child(args: argparse.Namespace, engine: dict[str, Any]) -> dict[str, Any]:
    import torch  # noqa: F401 - large pools load it, small ones do not: a step of 2 s and 0.4 GB that is no growth

    from simcore import pipeline
    from simcore.selection import SimCore

    selector, rng = SimCore(), np.random.default_rng(0)
    small = draw_features(rng, 20_000, DIM, 200)
    began = time.perf_counter()
    pipeline.select(draw_features(rng, NUM_TARGET, DIM, 12), small, selector=selector, budget=SHARE, **engine)
    starting = {"start_seconds": round(time.perf_counter() - began, 2)} if engine else {}
    with tempfile.TemporaryDirectory(dir=args.work) as out:
        place = Path(out) / "coreset.parquet"
        run = lambda: pipeline.select(  # noqa: E731
            args.target, args.pool, selector=selector, budget=SHARE, out=place, **engine
        )
        return costed(run, turns=3 if args.num <= 100_000 and not engine else 1) | starting


def on_ray(child: Callable[..., dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    """Run a child's work on a cluster of this machine.

    A cluster that embeds gives one core to the decoder, so it has a core more than workers.
    """
    import ray

    cores = args.workers + (child is embed_child)
    with contextlib.redirect_stdout(sys.stderr):
        ray.init(address="local", num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level=50)
    found = child(args, {"engine": "ray"})
    ray.shutdown()
    return found


def measured(args: argparse.Namespace, stage: str, num: int, workers: int = 0) -> dict[str, Any]:
    """Make what a stage reads, run it in a process of its own with one thread and no listing in the cache."""
    flags = {"child": stage, "work": args.work, "num": num, "workers": workers}
    if stage == "select":
        flags["target"], flags["pool"] = make_features(args.work, num)
    else:
        flags["source"] = make_images(args.work / "images", num)
    command = [sys.executable, __file__, *(part for name, value in flags.items() for part in (f"--{name}", str(value)))]
    with tempfile.TemporaryDirectory(dir=args.work) as cache:
        environment = {"SIMCORE_CACHE": cache, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)
    if done.returncode:
        raise SystemExit(f"{stage}, N = {num:,}: {done.stderr}")
    row = {"stage": stage, "num": num, "engine": "ray" if workers else "local", "workers": workers or 1}
    row |= json.loads(done.stdout.splitlines()[-1]) | {"load_average": round(os.getloadavg()[0], 2)}
    print(json.dumps(row), flush=True)
    return row


def plan(args: argparse.Namespace) -> list[tuple[str, int, int]]:
    """List (stage, N, workers of Ray or 0), small ones first."""
    local = [(stage, num, 0) for stage in ("embed", "export") for num in args.image_sizes]
    local += [("select", num, 0) for num in args.row_sizes]
    on_ray = {"select": {max(args.image_sizes), max(args.row_sizes)}, "embed": {max(args.image_sizes)}}
    spread = [(stage, num, n) for stage, sizes in on_ray.items() for num in sorted(sizes) for n in RAY_WORKERS]
    return [job for job in local + spread if ("ray" if job[2] else job[0]) in args.stages]


def fits(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Slopes in the log-log plot, and fixed and growing parts with what they give at 10^9."""
    found: dict[str, Any] = {}
    for stage in ("embed", "select", "export"):
        here = [row for row in rows if row["stage"] == stage and row["engine"] == "local"]
        sizes = [row["num"] for row in here]
        if len(sizes) < 2:
            continue
        found[stage] = {"from": min(sizes), "to": max(sizes)}
        for cost in ("seconds", "cpu_seconds", "peak_mb"):
            costs = [row[cost] for row in here]
            fixed, each = fixed_and_each(sizes, costs)
            upper = [place for place, size in enumerate(sizes) if size >= max(sizes) / 100]
            found[stage][cost] = {
                "slope": round(power_law(sizes, costs)[0], 3),
                "slope_of_upper_two_decades": round(
                    power_law([sizes[i] for i in upper], [costs[i] for i in upper])[0], 3
                ),
                "fixed": fixed,
                "each": each,
                "worst_error": round(
                    max(abs((fixed + each * s) / c - 1) for s, c in zip(sizes, costs, strict=True)), 3
                ),
                AT_LIMIT: fixed + each * LIMIT,
            }
    return found


def plot(rows: list[dict[str, Any]], found: dict[str, Any]) -> str:
    def series(cost: str, unit: str, many: float) -> list[Series]:
        lines = []
        for stage, fit in found.items():
            here = [row for row in rows if row["stage"] == stage and row["engine"] == "local"]
            sizes, costs, known = [row["num"] for row in here], [row[cost] for row in here], fit[cost]
            slopes = f"slope {known['slope']:.2f}, upper sizes {known['slope_of_upper_two_decades']:.2f}"
            cost_there = known[AT_LIMIT] / many
            name = f"{stage}: {slopes}; 10⁹: {cost_there:,.{0 if cost_there >= 10 else 1}f} {unit}"
            lines.append(Series(name, sizes, costs, (known["fixed"], known["each"])))
        return lines

    panels = [
        Panel("processor seconds, one thread", series("cpu_seconds", "hours", 3600), LIMIT),
        Panel("peak memory of the process, MB", series("peak_mb", "GB", 1024), LIMIT),
    ]
    return draw("Cost against number of images", panels)


def write(args: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    found = fits(rows)
    content = {
        "what": __doc__.partition("\n")[0],
        "machine": machine.describe(),
        "command": "python benchmarks/scale/growth.py",
        "settings": {"encoder": ENCODER, "image_size": SIDE, "dim": DIM, "num_target": NUM_TARGET, "budget": SHARE},
        "fits": found,
        "note": "`load_average` says how busy the machine was: where it is above 1, seconds hold others' work, and "
        "`cpu_seconds` (of the process itself, without Ray's workers) is what to compare.",
        "estimate_leaves_out": LEFT_OUT,
        "rows": rows,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(content, indent=1) + "\n")
    if found:
        args.plot.parent.mkdir(parents=True, exist_ok=True)
        args.plot.write_text(plot(rows, found), "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", nargs="+", choices=(*CHILDREN, "ray"), default=[*CHILDREN, "ray"])
    parser.add_argument("--work", type=Path, default=Path("runs/scale"), help="folder for everything made")
    parser.add_argument("--image-sizes", type=int, nargs="+", default=IMAGE_SIZES, help="N of embed and export")
    parser.add_argument("--row-sizes", type=int, nargs="+", default=ROW_SIZES, help="N of select")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--plot", type=Path, default=PLOT)
    parser.add_argument("--child", choices=CHILDREN, help=argparse.SUPPRESS)
    for flag, kind in {"num": int, "workers": int, "source": str, "target": str, "pool": str}.items():
        parser.add_argument(f"--{flag}", type=kind, help=argparse.SUPPRESS)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if args.child:
        child = CHILDREN[args.child]
        print(json.dumps(on_ray(child, args) if args.workers else child(args, {})))
        return
    args.work.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = json.loads(args.out.read_text())["rows"] if args.out.is_file() else []
    known = {(row["stage"], row["num"], row["workers"] if row["engine"] == "ray" else 0) for row in rows}
    for job in plan(args):
        if job not in known:
            rows.append(measured(args, *job))
            write(args, rows)
    write(args, rows)


CHILDREN = {"embed": embed_child, "export": export_child, "select": select_child}

if __name__ == "__main__":
    main()
