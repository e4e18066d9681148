"""Microsoft COCO, the images of train2017."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from simcore.datasets._dataset import Dataset, Row
from simcore.datasets._tree import Tree, walk

__all__ = ["Coco"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Coco(Dataset):
    """Take every image of ``train2017/``; the set serves as a pool and so has no labels."""

    title = "Microsoft COCO train2017"
    kind = "open-set"
    licence = "annotations CC BY 4.0; images under their Flickr terms"
    home = "https://cocodataset.org"
    published = "train2017.zip"
    archives = ("train2017.zip",)
    markers = ("train2017",)
    num_train = 118_287

    def rows(self, tree: Tree) -> Iterator[Row]:
        """Give the images by name."""
        for _, path in walk(tree.need("train2017")):
            yield Row("train", path, None)
