"""Drawn scenes for the dense benchmarks: a few patterned things on a textured ground, with boxes and masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

KINDS = ("disc", "square", "triangle")
MOST = 2  # things a scene

Field = npt.NDArray[np.float64]


def ground(rng: np.random.Generator, side: int) -> Field:
    """Noise of three grains added up, between two dull colours, [side, side, 3] from 0 to 1."""
    grey = np.zeros((side, side))
    for grain in (2, 5, 16):
        coarse = Image.fromarray(rng.uniform(size=(max(2, side // grain),) * 2).astype(np.float32))
        grey += np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)) * grain
    grey = (grey - grey.min()) / np.ptp(grey)
    return mixed(grey, *rng.uniform(0.1, 0.5, (2, 3)))


def pattern(rng: np.random.Generator, kind: str, side: int) -> Field:
    """Rings, stripes or checks of a random pace and turn, between a dark and a light colour, [side, side, 3]."""
    y, x = np.mgrid[:side, :side] - side / 2
    turn, pace = rng.uniform(0, np.pi), 2 * np.pi / rng.uniform(4, 8)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    waves = {
        "disc": np.sin(np.hypot(x, y) * pace),
        "square": np.sin(along * pace),
        "triangle": np.sin(along * pace) * np.sin(across * pace),
    }
    return mixed(0.5 + 0.5 * waves[kind], rng.uniform(0.6, 1.0, 3), rng.uniform(0.0, 0.3, 3))


def mixed(share: Field, one: Field, other: Field) -> Field:
    """Mix two colours [3] by the share [side, side] of the first."""
    return share[..., None] * one + (1 - share[..., None]) * other


def shape(kind: str, side: int) -> npt.NDArray[np.bool_]:
    """Say which cells of a square of ``side`` belong to the thing."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    if kind == "disc":
        return (x - 0.5) ** 2 + (y - 0.5) ** 2 <= 0.25
    return np.ones((side, side), bool) if kind == "square" else abs(x - 0.5) <= y / 2


def draw(
    rng: np.random.Generator, side: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], list[dict[str, Any]]]:
    """Draw one scene: pixels, mask (0 ground, then the kinds) and boxes; the boxes of things do not overlap."""
    pixels, mask, boxes = ground(rng, side), np.zeros((side, side), np.uint8), []
    for _ in range(int(rng.integers(1, MOST + 1))):
        number, size = int(rng.integers(len(KINDS))), int(rng.integers(3 * side // 8, 3 * side // 4))
        left, top = rng.integers(0, side - size, 2)
        part = (slice(top, top + size), slice(left, left + size))
        if mask[part].any():
            continue
        inside = shape(KINDS[number], size)
        pixels[part][inside] = pattern(rng, KINDS[number], size)[inside]
        mask[part][inside] = number + 1
        boxes.append({"category_id": number + 1, "bbox": [int(left), int(top), size, size]})
    return np.rint(255 * np.clip(pixels, 0, 1)).astype(np.uint8), mask, boxes


def write(folder: Path, num: int, side: int, seed: int) -> Path:
    """Write ``images/``, ``masks/`` and ``boxes.json``; equal arguments give equal files."""
    if (folder / "boxes.json").exists():
        return folder
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(num):
        pixels, mask, boxes = draw(np.random.default_rng([seed, number]), side)
        Image.fromarray(pixels).save(folder / "images" / f"{number:04d}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number:04d}.png")
        images.append({"id": number, "file_name": f"{number:04d}.png", "width": side, "height": side})
        annotations += [{"id": len(annotations) + i, "image_id": number, **box} for i, box in enumerate(boxes, 1)]
    categories = [{"id": i, "name": name} for i, name in enumerate(KINDS, 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "boxes.json").write_text(json.dumps(content))
    return folder
