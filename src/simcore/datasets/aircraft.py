"""FGVC-Aircraft: 100 variants of aircraft in families and of manufacturers, with boxes."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator

from simcore.datasets._dataset import Box, Dataset, Row, corner_box
from simcore.datasets._tree import Tree

__all__ = ["Aircraft"]

LEVELS = ("variant", "family", "manufacturer")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Aircraft(Dataset):
    """Read ``data/images_<level>_<part>.txt`` and ``data/images_box.txt``; train is trainval.

    The lowest 20 rows of every picture hold a copyright banner, as published.
    """

    title = "FGVC-Aircraft 2013b"
    licence = "non-commercial research"
    home = "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/"
    published = "fgvc-aircraft-2013b.tar.gz"
    archives = ("fgvc-aircraft-2013b*.tar.gz",)
    markers = ("images_variant_trainval.txt", "images_variant_test.txt")
    num_classes, num_train, num_test, metric = 100, 6667, 3333, "mean_per_class"
    attributes = types.MappingProxyType({"variant": 100, "family": 70, "manufacturer": 30})
    columns = ("part",)
    has_boxes = True

    def rows(self, tree: Tree) -> Iterator[Row]:
        """Give trainval in its order, then test."""
        boxes = _boxes(tree)
        folder = tree.need("images_variant_trainval.txt").parent / "images"
        parts = dict.fromkeys(_labels(tree, "variant", "val", optional=True), "val")
        for split, part in (("train", "trainval"), ("test", "test")):
            levels = {level: _labels(tree, level, part, optional=level != "variant") for level in LEVELS}
            for name, variant in levels["variant"].items():
                attributes = {level: levels[level].get(name, "") for level in LEVELS}
                attributes["part"] = parts.get(name, split)
                yield Row(split, f"{folder}/{name}.jpg", variant, attributes, boxes.get(name, ()))


def _labels(tree: Tree, level: str, part: str, *, optional: bool = False) -> dict[str, str]:
    """Read lines such as ``1025794 Boeing 707-320`` as name to label."""
    file = f"images_{level}_{part}.txt"
    if optional and tree.find(file) is None:
        return {}
    pairs = (line.partition(" ") for line in tree.lines(file))
    return {name: label.strip() for name, _, label in pairs}


def _boxes(tree: Tree) -> dict[str, tuple[Box, ...]]:
    """Read lines ``name left top right bottom``, counted from 1."""
    if tree.find("images_box.txt") is None:
        return {}
    words = (line.split() for line in tree.lines("images_box.txt"))
    return {name: (corner_box(*map(float, corners)),) for name, *corners in words}
