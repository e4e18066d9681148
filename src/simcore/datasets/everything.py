"""ALL: COCO, iNaturalist, ImageNet and Places as one open-set."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from simcore.datasets._dataset import Dataset, Row
from simcore.datasets._manifest import read_list
from simcore.datasets._tree import Tree
from simcore.datasets.coco import Coco
from simcore.datasets.imagenet import ImageNet
from simcore.datasets.inaturalist import INaturalist
from simcore.datasets.places import Places

__all__ = ["Everything"]

PARTS: dict[str, Dataset] = {
    "coco": Coco(),
    "inaturalist": INaturalist(),
    "imagenet": ImageNet(),
    "places": Places(),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Everything(Dataset):
    """Read the four sets from sub-folders called by their names, each prepared before or unpacked as published."""

    title = "ALL: COCO, iNaturalist, ImageNet and Places365"
    kind = "open-set"
    licence = "as its four parts"
    home = "https://github.com/sungnyun/openssl-simcore"
    published = "the folders coco, inaturalist, imagenet and places, each prepared or unpacked"
    archives = ()
    markers = tuple(PARTS)
    num_train = 9_926_082
    columns = ("part",)

    def rows(self, tree: Tree) -> Iterator[Row]:
        """Give the parts one after the other; a class is ``part/class``."""
        for name, part in PARTS.items():
            folder = tree.need(name)
            prepared = folder / "train.csv"
            for row in read_list(prepared) if prepared.is_file() else part.rows(Tree([folder])):
                label = None if row.label is None else f"{name}/{row.label}"
                yield Row(row.split, row.path, label, {"part": name})
