"""MIT Indoor 67: rooms of 67 kinds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from simcore.datasets._dataset import Dataset, Row
from simcore.datasets._tree import Tree

__all__ = ["Mit67"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mit67(Dataset):
    """Read ``TrainImages.txt`` and ``TestImages.txt``, whose lines are ``class/name.jpg``."""

    title = "MIT Indoor Scene 67"
    licence = "none stated; pictures from the web"
    home = "https://web.mit.edu/torralba/www/indoor.html"
    published = "indoorCVPR_09.tar, TrainImages.txt and TestImages.txt"
    archives = ("indoorCVPR_09.tar",)
    markers = ("Images", "TrainImages.txt", "TestImages.txt")
    num_classes, num_train, num_test, metric = 67, 5360, 1340, "mean_per_class"

    def rows(self, tree: Tree) -> Iterator[Row]:
        """Give the images in the order of the lists."""
        folder = tree.need("Images")
        for split, name in (("train", "TrainImages.txt"), ("test", "TestImages.txt")):
            for path in tree.lines(name):
                yield Row(split, f"{folder}/{path}", path.partition("/")[0])
