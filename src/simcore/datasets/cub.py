"""CUB-200-2011: 200 species of birds, with boxes and segmentations."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from PIL import Image

from simcore.datasets._dataset import Box, Dataset, Row
from simcore.datasets._tree import Tree

__all__ = ["Cub"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cub(Dataset):
    """Read the numbered lists of ``CUB_200_2011/``; pictures stored as grey are left out, as published."""

    title = "Caltech-UCSD Birds-200-2011"
    licence = "non-commercial research and education"
    home = "https://www.vision.caltech.edu/datasets/cub_200_2011/"
    published = "CUB_200_2011.tgz, and segmentations.tgz for the masks"
    archives = ("CUB_200_2011*.tgz", "segmentations*.tgz")
    markers = ("images.txt", "train_test_split.txt", "image_class_labels.txt", "classes.txt")
    num_classes, num_train, num_test, metric = 200, 5990, 5790, "top1"
    has_boxes = True
    mask_values = "above 204 foreground, 51 to 204 ignored, below 51 background"
    mask_classes = ("background=0-50", "foreground=205-255")

    def rows(self, tree: Tree) -> Iterator[Row]:
        """Give the images in the order of their numbers, train before test."""
        home = tree.need("images.txt").parent
        masks = tree.find("segmentations")
        names, classes = _numbered(tree, "classes.txt"), _numbered(tree, "image_class_labels.txt")
        is_train = _numbered(tree, "train_test_split.txt")
        boxes = _numbered(tree, "bounding_boxes.txt") if tree.find("bounding_boxes.txt") else {}
        for split, mark in (("train", "1"), ("test", "0")):
            for number, path in _numbered(tree, "images.txt").items():
                if is_train.get(number) == mark:
                    mask = f"{masks}/{path.rpartition('.')[0]}.png" if masks else ""
                    label = names[classes[number]]
                    yield Row(split, f"{home}/images/{path}", label, boxes=_box(boxes.get(number)), mask=mask)

    def reject(self, row: Row) -> str | None:
        """Leave out grey pictures; the file's header tells the mode."""
        try:
            with Image.open(row.path) as picture:
                return "grey" if picture.mode in ("1", "L", "LA", "I", "F") else None
        except (OSError, ValueError):
            return None  # unreadable: kept, so that reading it later names it


def _numbered(tree: Tree, name: str) -> dict[str, str]:
    pairs = (line.partition(" ") for line in tree.lines(name))
    return {number: rest for number, _, rest in pairs}


def _box(text: str | None) -> tuple[Box, ...]:
    """Read ``left top width height``."""
    if text is None:
        return ()
    left, top, width, height = map(float, text.split())
    return ((left, top, left + width, top + height),)
