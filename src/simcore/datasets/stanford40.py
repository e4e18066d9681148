"""Stanford 40 Actions: people doing one of 40 things."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from simcore.datasets._dataset import Dataset, Row
from simcore.datasets._tree import Tree

__all__ = ["Stanford40"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stanford40(Dataset):
    """Read ``ImageSplits/train.txt`` and ``test.txt``; ``riding_a_horse_011.jpg`` is of class ``riding_a_horse``."""

    title = "Stanford 40 Actions"
    licence = "none stated; pictures from the web"
    home = "http://vision.stanford.edu/Datasets/40actions.html"
    published = "Stanford40_JPEGImages.zip and Stanford40_ImageSplits.zip"
    archives = ("Stanford40.zip", "Stanford40_JPEGImages.zip", "Stanford40_ImageSplits.zip")
    markers = ("JPEGImages", "ImageSplits/train.txt", "ImageSplits/test.txt")
    num_classes, num_train, num_test, metric = 40, 4000, 5532, "top1"

    def rows(self, tree: Tree) -> Iterator[Row]:
        """Give the images in the order of the lists."""
        folder = tree.need("JPEGImages")
        for split in ("train", "test"):
            for name in tree.lines(f"ImageSplits/{split}.txt"):
                yield Row(split, f"{folder}/{name}", name.rpartition("_")[0])
