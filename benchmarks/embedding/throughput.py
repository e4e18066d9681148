"""What embedding adds to its two parts: decoding in worker processes, and the forward pass on ready tensors.

Three arms take turns, each from the same folder of JPEG files: `decode` reads, decodes, resizes and crops in the worker
processes and throws the batches away; `forward` runs the network on batches that lie ready; `embed` is the Embedder as
users call it. One torch thread and one worker, so that the two parts run side by side on two cores. `of_slower` is the
rate of `embed` over that of the slower part. Rates are of wall time, so other load on the machine shows; the same share
by processor time (`of_slower_by_cpu`: of the slower part alone, over that of the busier process while embedding) does
not depend on it. On a GPU (``--device cuda``) there is a worker for each core but one, and it computes in bf16.

    python benchmarks/embedding/throughput.py
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
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

RESULTS = Path(__file__).parents[1] / "results"
BATCH = {"cpu": 64, "cuda": 256}
ROUNDS = 3
DRAWN = 512
CASES = {  # width, height, encoder, image size, files
    "cpu": (
        (64, 64, "timm:resnet10@random", 64, 2048),
        (500, 375, "timm:resnet18@random", 224, 192),
        (500, 375, "timm:resnet50@random", 224, 128),
        (500, 375, "timm:test_resnet@random", 32, 1024),  # decoding is the slower part
    ),
    "cuda": ((64, 64, "timm:resnet18@random", 64, 16384), (500, 375, "timm:resnet50@random", 224, 4096)),
}


def draw_folder(folder: Path, width: int, height: int, count: int) -> ImageSource:
    """Photograph-like JPEGs: smooth colours with a little grain; after ``DRAWN`` of them come the same ones again."""
    for seed in range(count):
        if seed >= DRAWN:
            shutil.copyfile(folder / f"{seed % DRAWN:06d}.jpg", folder / f"{seed:06d}.jpg")
            continue
        draw = np.random.default_rng(seed)
        coarse = draw.integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.float32)
        grain = draw.normal(0, 4, smooth.shape)
        Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(folder / f"{seed:06d}.jpg", quality=90)
    return open_images(folder)


def workers(encoder: Encoder) -> int:
    return max(1, len(os.sched_getaffinity(0)) - 1) if encoder.device.type == "cuda" else 1


def decode_only(images: ImageSource, encoder: Encoder) -> None:
    reader = PieceReader(
        images, list(enumerate(split_rows(len(images)))), encoder.transform, BATCH[encoder.device.type]
    )
    for _ in read_batches(reader, workers(encoder)):
        pass


def forward_only(images: ImageSource, encoder: Encoder) -> None:
    side, cuda = encoder.image_size, encoder.device.type == "cuda"
    num = BATCH[encoder.device.type]
    batch = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (num, side, side, 3), dtype=np.uint8))
    batch = batch.to(encoder.device)
    with torch.autocast(encoder.device.type, torch.bfloat16, enabled=cuda):
        for _ in range(len(images) // num):
            encoder(batch.permute(0, 3, 1, 2))
    if cuda:
        torch.cuda.synchronize()


def embed(images: ImageSource, encoder: Encoder) -> None:
    precision = "bf16-mixed" if encoder.device.type == "cuda" else "32"
    size, count = BATCH[encoder.device.type], workers(encoder)
    Embedder(encoder, batch_size=size, num_workers=count, precision=precision, quiet=True)(images)


def timed(arm: Callable[[ImageSource, Encoder], None], images: ImageSource, encoder: Encoder) -> dict[str, float]:
    """Wall seconds, and processor seconds of this process and of its (ended) workers, an image."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    began, began_cpu = time.perf_counter(), time.process_time()
    arm(images, encoder)
    wall, own = time.perf_counter() - began, time.process_time() - began_cpu
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    worker = after.ru_utime + after.ru_stime - children.ru_utime - children.ru_stime
    return {name: value / len(images) for name, value in (("wall", wall), ("own", own), ("worker", worker))}


def measure(width: int, height: int, spec: str, image_size: int, count: int, device: str) -> dict[str, Any]:
    encoder = load_encoder(spec, device=device, image_size=image_size)
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
    parser.add_argument("--device", choices=sorted(CASES), default="cpu")
    parser.add_argument("--out", type=Path, help="result file (default: results/embedding_throughput[-cuda].json)")
    args = parser.parse_args()
    cuda = args.device == "cuda"
    torch.set_num_threads(1)
    cases, load = [], round(os.getloadavg()[0], 1)
    for case in CASES[args.device]:
        cases.append(measure(*case, args.device))
        print(json.dumps(cases[-1]))
    found = {
        "machine": machine.describe(),
        "device": args.device,
        "command": "python benchmarks/embedding/throughput.py" + (" --device cuda" if cuda else ""),
        "load_average": load,  # at the start: 0 on a machine that does nothing else
        "cases": cases,
    }
    out = args.out or RESULTS / f"embedding_throughput{'-cuda' if cuda else ''}.json"
    out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
