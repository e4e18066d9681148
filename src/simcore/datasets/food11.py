"""Food-11: meals of 11 kinds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from simcore.datasets._dataset import Dataset, Row
from simcore.datasets._tree import Tree, walk

__all__ = ["Food11"]

CLASSES = (
    "Bread",
    "Dairy product",
    "Dessert",
    "Egg",
    "Fried food",
    "Meat",
    "Noodles-Pasta",
    "Rice",
    "Seafood",
    "Soup",
    "Vegetable-Fruit",
)
PARTS = (("train", "training", "train"), ("train", "validation", "val"), ("test", "evaluation", "test"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Food11(Dataset):
    """Read ``training/``, ``validation/`` and ``evaluation/``; train is training and validation.

    ``3_17.jpg`` is of class 3; the copy with one folder per class is read too.
    """

    title = "Food-11"
    licence = "none stated; pictures from the web"
    home = "https://www.kaggle.com/datasets/trolukovich/food11-image-dataset"
    published = "the .zip with training, validation and evaluation"
    archives = ("Food-11*.zip", "food11*.zip", "archive.zip")
    markers = ("training", "validation", "evaluation")
    num_classes, num_train, num_test, metric = 11, 13296, 3347, "top1"
    columns = ("part",)

    def rows(self, tree: Tree) -> Iterator[Row]:
        """Give the images by part and name."""
        for split, folder, part in PARTS:
            for inner, path in walk(tree.need(folder)):
                yield Row(split, path, inner or _class_of(path), {"part": part})


def _class_of(path: str) -> str | None:
    number = path.rpartition("/")[2].partition("_")[0]
    return CLASSES[int(number)] if number.isdecimal() and int(number) < len(CLASSES) else None
