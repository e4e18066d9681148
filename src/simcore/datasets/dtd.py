"""Describable Textures: 47 words for textures."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from simcore.datasets._dataset import Dataset, Row
from simcore.datasets._tree import Tree
from simcore.errors import UsageError
from simcore.settings import setting

__all__ = ["Dtd"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dtd(Dataset):
    """Read ``labels/train1.txt``, ``val1.txt`` and ``test1.txt`` (or those of another fold); train is train and val."""

    title = "Describable Textures (DTD)"
    licence = "research"
    home = "https://www.robots.ox.ac.uk/~vgg/data/dtd/"
    published = "dtd-r1.0.1.tar.gz"
    archives = ("dtd-r1*.tar.gz",)
    markers = ("images", "labels/train1.txt", "labels/val1.txt", "labels/test1.txt")
    num_classes, num_train, num_test, metric = 47, 3760, 1880, "top1"
    columns = ("part",)

    fold: int = setting(1, "which of the ten published splits; 1 is that of the published experiments")

    def __post_init__(self) -> None:
        if not 1 <= self.fold <= 10:
            raise UsageError(f"fold must be from 1 to 10, not {self.fold}")

    def rows(self, tree: Tree) -> Iterator[Row]:
        """Give the images in the order of the lists."""
        folder = tree.need(f"labels/train{self.fold}.txt").parents[1] / "images"
        for split, part in (("train", "train"), ("train", "val"), ("test", "test")):
            for path in tree.lines(f"labels/{part}{self.fold}.txt"):
                yield Row(split, f"{folder}/{path}", path.partition("/")[0], {"part": part})
