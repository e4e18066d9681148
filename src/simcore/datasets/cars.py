"""Stanford Cars: 196 models of cars, with their brand, body type and boxes."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator
from typing import Any

from simcore.datasets._dataset import Dataset, Row, corner_box
from simcore.datasets._tree import Tree

__all__ = ["Cars"]

TYPES = ("SUV", "Sedan", "Hatchback", "Convertible", "Coupe", "Wagon", "Cab", "Van", "Minivan")
TYPE_OF_TRIM = {
    "Type-S": "Sedan",
    "R": "Coupe",
    "GS": "Sedan",
    "SuperCab": "Cab",
    "IPL": "Coupe",
    "XKR": "Coupe",
    "Superleggera": "Coupe",
}
"""Body types of models whose name ends in a trim; models with any other such word have no type, as published."""
DEVKIT = ("cars_meta.mat", "cars_train_annos.mat", "cars_test_annos_withlabels.mat", "cars_train", "cars_test")
BRANDS_OF_TWO_WORDS = ("AM General", "Aston Martin", "Land Rover")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cars(Dataset):
    """Read ``cars_annos.mat`` with ``car_ims/``, or the devkit with ``cars_train/`` and ``cars_test/``."""

    title = "Stanford Cars"
    licence = "non-commercial research"
    home = "https://ai.stanford.edu/~jkrause/cars/car_dataset.html"
    published = (
        "car_ims.tgz and cars_annos.mat, or cars_train.tgz, cars_test.tgz, car_devkit.tgz and "
        "cars_test_annos_withlabels.mat"
    )
    archives = ("car_ims.tgz", "cars_train.tgz", "cars_test.tgz", "car_devkit.tgz")
    num_classes, num_train, num_test, metric = 196, 8144, 8041, "top1"
    attributes = types.MappingProxyType({"model": 196, "brand": 49, "type": 9})
    has_boxes = True

    def is_unpacked(self, tree: Tree) -> bool:
        """Either edition will do."""
        return all(map(tree.find, ("cars_annos.mat", "car_ims"))) or all(map(tree.find, DEVKIT))

    def rows(self, tree: Tree) -> Iterator[Row]:
        """Give the images in the order of the annotation files."""
        if tree.find("cars_annos.mat"):
            yield from self._whole(tree)
        else:
            yield from self._devkit(tree)

    def _whole(self, tree: Tree) -> Iterator[Row]:
        content = tree.mat("cars_annos.mat")
        names, root = list(content["class_names"]), tree.need("car_ims").parent
        for split in ("train", "test"):
            for entry in content["annotations"]:
                if (split == "test") == bool(entry["test"]):
                    yield _row(split, f"{root}/{entry['relative_im_path']}", names, entry)

    def _devkit(self, tree: Tree) -> Iterator[Row]:
        names = list(tree.mat("cars_meta.mat")["class_names"])
        for split, file in (("train", "cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
            folder = tree.need(f"cars_{split}/cars_{split}", f"cars_{split}")
            for entry in tree.mat(file)["annotations"]:
                yield _row(split, f"{folder}/{entry['fname']}", names, entry)


def _row(split: str, path: str, names: list[str], entry: Any) -> Row:
    model = str(names[int(entry["class"]) - 1])
    attributes = {"model": model, "brand": brand_of(model), "type": type_of(model)}
    box = corner_box(*(float(entry[f"bbox_{corner}"]) for corner in ("x1", "y1", "x2", "y2")))
    return Row(split, path, model, attributes, (box,))


def brand_of(model: str) -> str:
    """Give the maker: ``Audi`` of ``Audi TT Hatchback 2011``."""
    return next((brand for brand in BRANDS_OF_TWO_WORDS if model.startswith(brand)), model.split(" ")[0])


def type_of(model: str) -> str:
    """Give the body type, which stands before the year; "" where the name does not tell."""
    word = model.split(" ")[-2]
    return word if word in TYPES else TYPE_OF_TRIM.get(word, "")
