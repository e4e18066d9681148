"""Stanford Dogs: 120 breeds, pictures from ImageNet."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from simcore.datasets._dataset import Dataset, Row
from simcore.datasets._tree import Tree

__all__ = ["Dogs"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dogs(Dataset):
    """Read ``train_list.mat`` and ``test_list.mat``; the class is the folder (``n02085620-Chihuahua``)."""

    title = "Stanford Dogs"
    licence = "non-commercial research and education (pictures from ImageNet)"
    home = "http://vision.stanford.edu/aditya86/ImageNetDogs/"
    published = "images.tar and lists.tar"
    archives = ("images.tar", "lists.tar")
    markers = ("train_list.mat", "test_list.mat", "Images")
    num_classes, num_train, num_test, metric = 120, 12000, 8580, "top1"

    def rows(self, tree: Tree) -> Iterator[Row]:
        """Give the images in the order of the lists."""
        folder = tree.need("Images")
        for split in ("train", "test"):
            for name in np.atleast_1d(tree.mat(f"{split}_list.mat")["file_list"]):
                yield Row(split, f"{folder}/{name}", str(name).partition("/")[0])
