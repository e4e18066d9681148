"""What embedding adds to its two parts: decoding in worker processes, and the forward pass on ready tensors.

Three arms take turns, each from the same folder of JPEG files: `decode` reads, decodes, resizes and crops in the worker
processes and throws the batches away; `forward` runs the network on batches that lie ready; `embed` is the Embedder as
users call it. One torch thread and one worker, so that the two parts run side by side on two cores. `of_slower` is the
rate of `embed` over that of the slower part. Rates are of wall time, so other load on the machine shows; the same share
by processor time (`of_slower_by_cpu`: of the slower part alone, over that of the busier process while embedding) does
not depend on it.

    python benchmarks/embedding/throughput.py
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
import machine
from simcore.embedding import Embedder, Encoder, load_encoder
from simcore.embedding._pieces import split_rows
from simcore.embedding._reading import PieceReader, read_batches
from simcore.images import ImageSource, open_images

RESULT = Path(__file__).parents[1] / "results" / "embedding_throughput.json"
BATCH = 64
ROUNDS = 3
CASES = (  # width, height, encoder, image size, files
    (64, 64, "timm:resnet10@random", 64, 2048),
    (500, 375, "timm:resnet18@random", 224, 192),
    (500, 375, "timm:resnet50@random", 224, 128),
)


def draw_folder(folder: Path, width: int, height: int, count: int) -> ImageSource:
    """Photograph-like JPEGs: smooth colours with a little grain."""
    for seed in range(count):
        draw = np.random.default_rng(seed)
        coarse = draw.integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.float32)
        grain = draw.normal(0, 4, smooth.shape)
        Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(folder / f"{seed:06d}.jpg", quality=90)
    return open_images(folder)


def decode_only(images: ImageSource, encoder: Encoder) -> None:
    reader = PieceReader(images, list(enumerate(split_rows(len(images)))), encoder.transform, BATCH)
    for _ in read_batches(reader, 1):
        pass


def forward_only(images: ImageSource, encoder: Encoder) -> None:
    side = encoder.image_size
    batch = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (BATCH, side, side, 3), dtype=np.uint8))
    for _ in range(len(images) // BATCH):
        encoder(batch.permute(0, 3, 1, 2))


def embed(images: ImageSource, encoder: Encoder) -> None:
    Embedder(encoder, batch_size=BATCH, num_workers=1, quiet=True)(images)


def timed(arm: Callable[[ImageSource, Encoder], None], images: ImageSource, encoder: Encoder) -> dict[str, float]:
    """Wall seconds, and processor seconds of this process and of its (ended) workers, an image."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    began, began_cpu = time.perf_counter(), time.process_time()
    arm(images, encoder)
    wall, own = time.perf_counter() - began, time.process_time() - began_cpu
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    worker = after.ru_utime + after.ru_stime - children.ru_utime - children.ru_stime
    return {name: value / len(images) for name, value in (("wall", wall), ("own", own), ("worker", worker))}


def measure(width: int, height: int, spec: str, image_size: int, count: int) -> dict[str, Any]:
    encoder = load_encoder(spec, device="cpu", image_size=image_size)
    arms = {"decode": decode_only, "forward": forward_only, "embed": embed}
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in arms}
    with tempfile.TemporaryDirectory() as folder:
        images = draw_folder(Path(folder), width, height, count)
        for turn in range(ROUNDS + 1):
            for name, arm in arms.items():
                seconds = timed(arm, images, encoder)
                if turn:  # the first turn warms up
                    taken[name].append(seconds)
    middle = {
        name: {kind: float(np.median([turn[kind] for turn in turns])) for kind in turns[0]}
        for name, turns in taken.items()
    }
    slower = [max(d["wall"], f["wall"]) / e["wall"] for d, f, e in zip(*taken.values(), strict=True)]
    alone = max(middle["decode"]["worker"], middle["forward"]["own"])
    return {
        "jpeg": f"{width}x{height}",
        "encoder": spec,
        "image_size": image_size,
        "num_images": count,
        "images_per_second": {name: round(1 / kinds["wall"], 1) for name, kinds in middle.items()},
        "cpu_milliseconds": {
            name: {kind: round(kinds[kind] * 1e3, 3) for kind in ("own", "worker")} for name, kinds in middle.items()
        },
        "of_slower": round(float(np.median(slower)), 3),
        "of_slower_by_cpu": round(alone / max(middle["embed"]["own"], middle["embed"]["worker"]), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cases, load = [], round(os.getloadavg()[0], 1)
    for case in CASES:
        cases.append(measure(*case))
        print(json.dumps(cases[-1]))
    found = {
        "machine": machine.describe(),
        "command": "python benchmarks/embedding/throughput.py",
        "load_average": load,  # at the start: 0 on a machine that does nothing else
        "cases": cases,
    }
    args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
