"""What decoding a JPEG costs: simcore's `decode` against bare Pillow, torchvision and simplejpeg.

Every arm starts from the same encoded bytes and ends with uint8 RGB pixels in memory. The arms take turns in one
process on one thread, and what counts is its processor time: quote the ratios. `decode` also checks that the file is
whole, reads the orientation and turns the picture; the bare calls do not. `max_difference` is the largest difference of
any pixel from Pillow's. Two sizes are decoded whole, and a photograph also at the reduced scale that an encoder of 224
pixels wants.

    python benchmarks/decoding/codecs.py
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg

sys.path.insert(0, str(Path(__file__).parents[1]))
import machine
from simcore.images import decode

RESULT = Path(__file__).parents[1] / "results" / "decoding_codecs.json"
CASES = (  # width, height, wanted short side (None: whole), files, rounds
    (64, 64, None, 200, 15),
    (500, 375, None, 20, 15),
    (2000, 1500, None, 3, 7),
    (2000, 1500, 256, 3, 7),
)


def photograph(seed: int, width: int, height: int) -> bytes:
    """Smooth colours with a little grain: about one byte in two pixels, as photographs have."""
    draw = np.random.default_rng(seed)
    coarse = draw.integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(np.float32)
    grainy = np.clip(smooth + draw.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grainy).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def arms(short_side: int | None) -> dict[str, Callable[[bytes], np.ndarray]]:
    """The ways to decode; those without a reduced scale are left out where one is wanted."""

    def pillow(data: bytes) -> np.ndarray:
        image = Image.open(io.BytesIO(data))
        if short_side:
            image.draft("RGB", (short_side, short_side))
        return np.array(image.convert("RGB"))

    def simple(data: bytes) -> np.ndarray:
        return simplejpeg.decode_jpeg(data, "RGB", min_height=short_side or 0, min_width=short_side or 0)

    def vision(data: bytes) -> np.ndarray:
        encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        return decode_jpeg(encoded, mode=ImageReadMode.RGB).permute(1, 2, 0).numpy()

    found = {
        "pillow": pillow,
        "simcore": lambda data: decode(data, short_side=short_side).pixels,
        "simplejpeg": simple,
    }
    return found if short_side else {**found, "torchvision": vision}


def measure(width: int, height: int, short_side: int | None, num_files: int, rounds: int) -> dict[str, Any]:
    files = [photograph(seed, width, height) for seed in range(num_files)]
    ways = arms(short_side)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            began = time.process_time()
            for data in files:
                way(data)
            if turn:  # the first turn warms up
                seconds[name].append((time.process_time() - began) / num_files)
    pillow = np.array(seconds["pillow"])
    reference = ways["pillow"](files[0]).astype(int)
    return {
        "width": width,
        "height": height,
        "short_side": short_side,
        "bytes": int(np.mean([len(data) for data in files])),
        "arms": {
            name: {
                "microseconds": round(float(np.median(times)) * 1e6, 1),
                "times_pillow": round(float(np.median(np.array(times) / pillow)), 3),
                "max_difference": _difference(ways[name](files[0]), reference),
            }
            for name, times in seconds.items()
        },
    }


def _difference(pixels: np.ndarray, reference: np.ndarray) -> int | None:
    return int(np.abs(pixels.astype(int) - reference).max()) if pixels.shape == reference.shape else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = {"machine": machine.describe(), "command": "python benchmarks/decoding/codecs.py", "cases": []}
    for case in CASES:
        found["cases"].append(measure(*case))
        print(json.dumps(found["cases"][-1]))
    args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
