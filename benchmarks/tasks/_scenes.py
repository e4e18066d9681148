"""Scenes for the dense benchmarks: a few things on a ground, with boxes and masks; what both are made of is a Material.

``Drawn`` needs no data: patterned shapes on dull noise. ``_photographs`` has the material of real textures.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

MOST = 2  # things a scene

Field = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]
Inside = npt.NDArray[np.bool_]


class Material(Protocol):
    """What scenes are made of; ``kinds`` names the classes of things."""

    @property
    def kinds(self) -> tuple[str, ...]: ...

    def ground(self, rng: np.random.Generator, side: int) -> Pixels:
        """Give a ground [side, side, 3]."""
        ...

    def thing(self, rng: np.random.Generator, kind: str, side: int) -> tuple[Pixels, Inside]:
        """Give a square [side, side, 3] and which of its cells [side, side] belong to the thing."""
        ...


class Drawn:
    """Discs with rings, striped squares and checked triangles on noise."""

    kinds = ("disc", "square", "triangle")

    def ground(self, rng: np.random.Generator, side: int) -> Pixels:
        """Add up noise of three grains, between two dull colours."""
        grey = np.zeros((side, side))
        for grain in (2, 5, 16):
            coarse = Image.fromarray(rng.uniform(size=(max(2, side // grain),) * 2).astype(np.float32))
            grey += np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)) * grain
        grey = (grey - grey.min()) / np.ptp(grey)
        return mixed(grey, *rng.uniform(0.1, 0.5, (2, 3)))

    def thing(self, rng: np.random.Generator, kind: str, side: int) -> tuple[Pixels, Inside]:
        """Draw rings, stripes or checks of a random pace and turn, between a dark and a light colour."""
        y, x = np.mgrid[:side, :side] - side / 2
        turn, pace = rng.uniform(0, np.pi), 2 * np.pi / rng.uniform(4, 8)
        along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        waves = {
            "disc": np.sin(np.hypot(x, y) * pace),
            "square": np.sin(along * pace),
            "triangle": np.sin(along * pace) * np.sin(across * pace),
        }
        return mixed(0.5 + 0.5 * waves[kind], rng.uniform(0.6, 1.0, 3), rng.uniform(0.0, 0.3, 3)), shape(kind, side)


def mixed(share: Field, one: Field, other: Field) -> Pixels:
    """Mix two colours [3] from 0 to 1 by the share [side, side] of the first."""
    mix = share[..., None] * one + (1 - share[..., None]) * other
    return np.rint(255 * np.clip(mix, 0, 1)).astype(np.uint8)


def shape(name: str, side: int) -> Inside:
    """Say which cells of a square of ``side`` belong to a disc, a square or a triangle."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    if name == "disc":
        return (x - 0.5) ** 2 + (y - 0.5) ** 2 <= 0.25
    return np.ones((side, side), bool) if name == "square" else abs(x - 0.5) <= y / 2


def draw(rng: np.random.Generator, material: Material, side: int) -> tuple[Pixels, Pixels, list[dict[str, Any]]]:
    """Draw one scene: pixels, mask (0 ground, then the kinds) and boxes; the boxes of things do not overlap."""
    pixels, mask, boxes = material.ground(rng, side), np.zeros((side, side), np.uint8), []
    for _ in range(int(rng.integers(1, MOST + 1))):
        number, size = int(rng.integers(len(material.kinds))), int(rng.integers(3 * side // 8, 3 * side // 4))
        left, top = rng.integers(0, side - size, 2)
        part = (slice(top, top + size), slice(left, left + size))
        if mask[part].any():
            continue
        thing, inside = material.thing(rng, material.kinds[number], size)
        pixels[part][inside] = thing[inside]
        mask[part][inside] = number + 1
        boxes.append({"category_id": number + 1, "bbox": [int(left), int(top), size, size]})
    return pixels, mask, boxes


def write(folder: Path, material: Material, num: int, side: int, seed: int) -> Path:
    """Write ``images/``, ``masks/`` and ``boxes.json``; equal arguments give equal files."""
    if (folder / "boxes.json").exists():
        return folder
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(num):
        pixels, mask, boxes = draw(np.random.default_rng([seed, number]), material, side)
        Image.fromarray(pixels).save(folder / "images" / f"{number:04d}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number:04d}.png")
        images.append({"id": number, "file_name": f"{number:04d}.png", "width": side, "height": side})
        annotations += [{"id": len(annotations) + i, "image_id": number, **box} for i, box in enumerate(boxes, 1)]
    categories = [{"id": i, "name": name} for i, name in enumerate(material.kinds, 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "boxes.json").write_text(json.dumps(content))
    return folder
