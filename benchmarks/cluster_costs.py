"""What the parts of a run on a cluster cost: the constants of the cost model in docs/cluster.md.

    python benchmarks/cluster_costs.py [--cases embed store pass select driver]

    embed    images a core decodes and embeds in a second (each case alone, one thread, by CPU time)
    store    bytes of a row on disk and in this process, rows a second merged into a finished store
    pass     rows a second that a core compares with the centroids
    select   what is sent between this process and the shards, and the time to merge it
    driver   CPU time of this process for each image embedded by a local Ray of two workers

Times are CPU seconds of the process that works, so that other load on the machine matters little.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import resource
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import machine

RESULT = Path(__file__).parent / "results" / "cluster_costs.json"
DIM, NUM_CLUSTERS = 2048, 100


def cpu_seconds(work: Callable[[], Any], turns: int = 3) -> float:
    """Give the best of some turns."""
    taken = []
    for _ in range(turns):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return min(taken)


def write_images(folder: Path, num: int, size: tuple[int, int]) -> Path:
    """Write JPEGs with as much detail as photographs have (about 50 kB at 500 x 375)."""
    from PIL import Image

    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(num):
        coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), np.int16)
        noisy = np.clip(smooth + rng.integers(-12, 13, smooth.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{number:06d}.jpg", quality=85)
    return folder


def run_embed(work: Path) -> dict[str, Any]:
    """Decode and forward pass apart, as the cluster runs them."""
    from simcore.embedding import Embedder, load_encoder
    from simcore.embedding.ray_cluster import cut_chunks, decode_chunk
    from simcore.images import open_images

    images = open_images(write_images(work / "photos", 128, (500, 375)))
    found: dict[str, Any] = {
        "image": "JPEG, 500 x 375",
        "bytes_an_image": int(np.mean([path.stat().st_size for path in (work / "photos").iterdir()])),
    }
    for name in ("resnet50", "vit_small_patch16_224"):
        encoder = load_encoder(f"timm:{name}@random", device="cpu")
        embedder = Embedder(encoder, batch_size=32)
        (chunk,) = cut_chunks([(0, range(len(images)))], 32, encoder.image_size)
        _, batches = decode_chunk(images, images.listing, chunk, encoder.transform, 32)
        decode = cpu_seconds(lambda e=encoder, c=chunk: decode_chunk(images, images.listing, c, e.transform, 32))
        forward = cpu_seconds(lambda e=embedder, b=batches: e.embed_batch(b[0]), turns=2)
        found[f"{name}, 224 px"] = {
            "dim": encoder.dim,
            "decoded_a_core_second": len(images) / decode,
            "embedded_a_core_second": 32 / forward,
            "pixel_bytes_an_image": batches[0].pixels[0].nbytes,
        }
    found["peak_memory_mb_of_this_process"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def run_store(work: Path) -> dict[str, Any]:
    """A store of many rows of tar shards, written piece by piece as features arrive, then merged."""
    import pyarrow as pa

    from simcore.artifacts import Embeddings
    from simcore.artifacts.embeddings import STORE_FORMAT
    from simcore.embedding._pieces import Piece
    from simcore.embedding.store import Store

    num = 1 << 17
    numbers = np.arange(num)
    ids = pa.array([f"{number // 10_000:05d}.tar/{number:09d}.jpg" for number in numbers])
    uris = pa.array([f"tar://{n:09d}.jpg::/data/pool/{n // 10_000:05d}.tar" for n in numbers])
    listing = pa.table({"id": ids, "uri": uris, "label": pa.array(numbers % 1000)})
    plan = {"format": STORE_FORMAT, "dim": DIM, "dtype": "float16", "fingerprint": "costs", "classes": []}
    store = Store(work / "store", plan, listing)
    store.begin()
    features = np.random.default_rng(0).standard_normal((4096, DIM), dtype=np.float32).astype(np.float16)

    def add() -> None:
        for number, rows in enumerate(store.pieces):
            piece = Piece(
                start=rows.start,
                sizes=np.full((len(rows), 2), 500, np.int32),
                skipped=np.zeros(0, np.int64),
                reasons=np.zeros(0, "<U1"),
                features=features[: len(rows)],
                num_rescaled=0,
            )
            store.add(number, piece)

    adding, finishing = cpu_seconds(add, turns=1), cpu_seconds(store.finish, turns=1)
    store.clear_working()
    table = Embeddings.load(work / "store").table
    return {
        "dim": DIM,
        "feature_bytes_a_row": sum(p.stat().st_size for p in (work / "store").glob("features-*")) / num,
        "table_bytes_a_row_on_disk": (work / "store" / "rows.parquet").stat().st_size / num,
        "table_bytes_a_row_in_memory": table.nbytes / num,
        "rows_added_a_core_second": num / adding,
        "rows_merged_a_core_second": num / finishing,
    }


def run_pass(work: Path) -> dict[str, Any]:
    """The first pass of one shard over its rows, from files."""
    from simcore.artifacts import Embeddings
    from simcore.selection._features import Features
    from simcore.selection._similarity import FeatureScores

    found = {}
    for dim, num in ((512, 200_000), (2048, 50_000)):
        rng = np.random.default_rng(1)
        path = work / f"pass-{dim}.npy"
        np.save(path, np.maximum(rng.standard_normal((num, dim), dtype=np.float32), 0).astype(np.float16))
        centroids = np.maximum(rng.standard_normal((NUM_CLUSTERS, dim), dtype=np.float32), 0)
        centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
        features = Embeddings.load(path)
        budget = num // 100
        seconds = cpu_seconds(lambda c=centroids, f=features, b=budget: FeatureScores(c, Features(f), b).prepare())
        rate = num / seconds
        found[f"D={dim}, K={NUM_CLUSTERS}"] = {
            "rows_a_core_second": rate,
            "gigaflops_a_core": 2 * dim * NUM_CLUSTERS * rate / 1e9,
            "megabytes_a_core_second": 2 * dim * rate / 1e6,
        }
    return found


class CountingCrew:
    """Shards in this process; counts what would travel, and the time that each shard takes."""

    def __init__(self, pool: Any, num_shards: int) -> None:
        from simcore.selection._shards import ShardWorker, cut

        self.ray = types.SimpleNamespace(put=lambda value: value)
        self.shards = cut(pool, num_shards, 1)
        self.workers = [ShardWorker() for _ in self.shards]
        self.sent = self.got = self.requests = self.keys = 0
        self.shard_seconds = 0.0

    def new_key(self) -> str:
        self.keys += 1
        return str(self.keys)

    def ask(self, number: int, method: str, *args: Any) -> Any:
        self.requests += 1
        # References of what was put once are some 100 bytes; centroids are sent to a node once.
        light = [arg for arg in args if not (isinstance(arg, np.ndarray) and arg.ndim == 2)]
        self.sent += len(pickle.dumps(light, protocol=5)) + 300
        began = time.process_time()
        answer = getattr(self.workers[number], method)(self.shards[number], (), *args)
        self.shard_seconds += time.process_time() - began
        self.got += len(pickle.dumps(answer, protocol=5))
        return answer

    def answers(self, refs: list[Any]) -> list[Any]:
        return list(refs)


def run_select(work: Path) -> dict[str, Any]:
    """A whole selection of 1 % of a million rows by 100 centroids, from 16 to 256 shards; same picks, asserted."""
    import simcore.selection._ray_cluster as ray_cluster
    from simcore.artifacts import Embeddings
    from simcore.selection import SimCore
    from simcore.selection._base import Job, as_embeddings

    num, dim = 1_000_000, 64
    rng = np.random.default_rng(2)
    centres = rng.standard_normal((200, dim), dtype=np.float32)
    path = work / "pool.npy"
    rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(num, dim))
    for first in range(0, num, 50_000):
        classes = np.sort(rng.integers(0, 200, 50_000))
        rows[first : first + 50_000] = centres[classes] + rng.standard_normal((50_000, dim), dtype=np.float32)
    del rows
    target = as_embeddings(centres[rng.integers(0, 12, 3000)] + rng.standard_normal((3000, dim)), "target")
    pool, selector, budget = Embeddings.load(path), SimCore(num_restarts=1), num // 100
    here = selector.select(target, pool, budget=budget)
    merges: list[float] = []
    merge = ray_cluster.merge

    def timed(*args: Any) -> Any:
        began = time.process_time()
        merged = merge(*args)
        merges.append(time.process_time() - began)
        return merged

    ray_cluster.merge = timed
    found: dict[str, Any] = {"num_rows": num, "dim": dim, "num_clusters": NUM_CLUSTERS, "budget": budget}
    for num_shards in (16, 64, 256):
        crew = CountingCrew(pool, num_shards)
        merges.clear()
        began = time.process_time()
        job = Job(target, pool, budget, ray_cluster.ShardedFeatures(pool, crew))
        assert np.array_equal(selector.choose(job).indices, here.indices)
        found[f"{num_shards} shards"] = {
            "requests_a_shard": crew.requests / num_shards,
            "bytes_sent_a_shard": crew.sent / num_shards,
            "bytes_received_a_shard": crew.got / num_shards,
            "merges": len(merges),
            "merge_seconds": sum(merges),
            "shard_seconds": crew.shard_seconds,
            "this_process_seconds": time.process_time() - began - crew.shard_seconds,
        }
    ray_cluster.merge = merge
    return found


def run_driver(work: Path) -> dict[str, Any]:
    """Small images and a small network, so that what this process does is much of it; two sizes, for the slope."""
    from simcore.cluster import connected
    from simcore.embedding import Embedder, load_encoder
    from simcore.embedding._pieces import split_rows
    from simcore.embedding.ray_cluster import cut_chunks
    from simcore.images import open_images

    whole = open_images(write_images(work / "small", 4096, (48, 48)))
    encoder = load_encoder("timm:resnet10@random", device="cpu", image_size=32)
    embedder = Embedder(encoder, engine="ray", quiet=True)
    began = time.monotonic()
    runs = []
    with connected() as ray:
        starting = time.monotonic() - began
        cores = ray.cluster_resources()["CPU"]
        for num in (1024, 4096):
            images = whole.take(np.arange(num))
            pieces = list(enumerate(split_rows(num)))
            chunks = len(list(cut_chunks(pieces, embedder.batch_size, encoder.image_size)))
            wall, cpu = time.monotonic(), time.process_time()
            embedder(images, work / f"store-{num}")
            runs.append((num, chunks, time.monotonic() - wall, time.process_time() - cpu))
    (_, few, _, small), (_, many, _, large) = runs
    return {
        "ray": ray.__version__,
        "cores": cores,
        "ray_start_seconds": starting,
        "runs": [dict(zip(("images", "chunks", "wall_seconds", "cpu_seconds"), run, strict=True)) for run in runs],
        "cpu_seconds_a_chunk": (large - small) / (many - few),
    }


def main() -> None:
    """Measure the cases asked for and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=sorted(CASES), default=sorted(CASES))
    args = parser.parse_args()
    found = json.loads(RESULT.read_text())["cases"] if RESULT.is_file() else {}
    for name in args.cases:
        with tempfile.TemporaryDirectory() as work:
            found[name] = CASES[name](Path(work))
        found[name]["command"] = f"python benchmarks/cluster_costs.py --cases {name}"
        found[name]["load_average"] = os.getloadavg()[0]
        print(name, json.dumps(found[name], indent=2), flush=True)
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps({"machine": machine.describe(), "cases": found}, indent=2) + "\n")


CASES = {"embed": run_embed, "store": run_store, "pass": run_pass, "select": run_select, "driver": run_driver}

if __name__ == "__main__":
    main()
