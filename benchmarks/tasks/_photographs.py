"""Scenes of real textures: shapes cut out of photographs of one class lie on photographs of landscapes."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import _scenes
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny_imagenet
from simcore.images import open_images

# Classes of Tiny-ImageNet whose photographs are filled by one texture; chosen by name, before any figure was seen.
KINDS = ("brain coral", "thatch", "comic book", "pizza")
GROUNDS = ("alp", "cliff", "lakeside", "seashore")
SHAPES = ("disc", "square", "triangle")


@dataclasses.dataclass(frozen=True)
class Photographs:
    """What scenes are made of. The kind of a thing lies in its texture alone: its shape is drawn apart.

    Attributes:
        textures: for each of KINDS its photographs, uint8 [n, 64, 64, 3].
        grounds: those of all GROUNDS together.
    """

    textures: tuple[_scenes.Pixels, ...]
    grounds: _scenes.Pixels

    @property
    def kinds(self) -> tuple[str, ...]:
        return KINDS

    def ground(self, rng: np.random.Generator, side: int) -> _scenes.Pixels:
        """Cut a landscape."""
        return _cut(rng, self.grounds, side)

    def thing(self, rng: np.random.Generator, kind: str, side: int) -> tuple[_scenes.Pixels, _scenes.Inside]:
        """Cut a shape out of a photograph."""
        return _cut(rng, self.textures[KINDS.index(kind)], side), _scenes.shape(SHAPES[rng.integers(len(SHAPES))], side)


def photographs(data: Path, files: str) -> Photographs:
    """Read the photographs that scenes need from some files of Tiny-ImageNet."""
    wnids = {row["words"].split(",")[0]: row["wnid"] for row in tiny_imagenet.classes(data)}

    def read(names: tuple[str, ...]) -> _scenes.Pixels:
        images = open_images(f"{data.resolve()}/{files}#classes={','.join(wnids[name] for name in names)}")
        return np.stack([images.decode(row).pixels for row in range(len(images))])

    return Photographs(tuple(read((name,)) for name in KINDS), read(GROUNDS))


def _cut(rng: np.random.Generator, photos: _scenes.Pixels, side: int) -> _scenes.Pixels:
    """Take a square out of the middle of one photograph, mirrored half of the time."""
    photo = photos[rng.integers(len(photos))]
    spare = photo.shape[0] - side
    top, left = rng.integers(spare // 4, 3 * spare // 4 + 1, 2)
    turn = -1 if rng.random() < 0.5 else 1
    return photo[top : top + side, left : left + side][:, ::turn].copy()
