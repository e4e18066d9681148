"""Oxford 102 Flower: 102 kinds of flowers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from simcore.datasets._dataset import Dataset, Row
from simcore.datasets._tree import Tree

__all__ = ["Flowers"]

PARTS = (("train", "train", "trnid"), ("train", "val", "valid"), ("test", "test", "tstid"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flowers(Dataset):
    """Read ``imagelabels.mat`` and ``setid.mat``; train is train and val; classes bear numbers, as published."""

    title = "Oxford 102 Flower"
    licence = "none stated; pictures from the web"
    home = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"
    published = "102flowers.tgz, imagelabels.mat and setid.mat"
    archives = ("102flowers.tgz",)
    markers = ("jpg", "imagelabels.mat", "setid.mat")
    num_classes, num_train, num_test, metric = 102, 2040, 6149, "mean_per_class"
    columns = ("part",)

    def rows(self, tree: Tree) -> Iterator[Row]:
        """Give each part in the order of its numbers; the class of 7 is named ``class_007``."""
        folder = tree.need("jpg")
        labels, parts = np.atleast_1d(tree.mat("imagelabels.mat")["labels"]), tree.mat("setid.mat")
        for split, part, key in PARTS:
            for number in np.atleast_1d(parts[key]).tolist():
                path = f"{folder}/image_{number:05d}.jpg"
                yield Row(split, path, f"class_{int(labels[number - 1]):03d}", {"part": part})
