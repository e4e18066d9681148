"""WebFG-496: web images of aircraft, birds and cars."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from simcore.datasets._dataset import Dataset, Row
from simcore.datasets._tree import Tree, walk

__all__ = ["WebFG"]

PARTS = ("web-aircraft", "web-bird", "web-car")
NAMES = {"F-16AB": "F-16A/B", "FA-18": "F/A-18"}
"""Folders whose class has another name in FGVC-Aircraft, so that the two sets agree by name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WebFG(Dataset):
    """Read ``web-aircraft/train``, ``web-bird/train`` and ``web-car/train``; classes are the folders' names."""

    title = "WebFG-496 train"
    kind = "open-set"
    licence = "none stated; pictures from the web"
    home = "https://github.com/NUST-Machine-Intelligence-Laboratory/weblyFG-dataset"
    published = "web-aircraft.tar.gz, web-bird.tar.gz and web-car.tar.gz"
    archives = ("web-aircraft.tar.gz", "web-bird.tar.gz", "web-car.tar.gz")
    markers = PARTS
    num_classes, num_train = 496, 53_339
    columns = ("part",)

    def wants(self, member: str) -> bool:
        """Leave the validation images, which are those of the targets' own test sets."""
        return "/val/" not in member

    def rows(self, tree: Tree) -> Iterator[Row]:
        """Give the images by part, class and name."""
        for part in PARTS:
            for inner, path in walk(tree.need(f"{part}/train")):
                if inner:
                    yield Row("train", path, NAMES.get(inner, inner), {"part": part})
