"""Places365, the training images of the challenge edition."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from simcore.datasets._dataset import Dataset, Row
from simcore.datasets._tree import Tree, walk

__all__ = ["Places"]

FOLDERS = ("data_256_challenge", "data_large_challenge", "data_256", "data_large")
LIST = "places365_train_challenge.txt"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Places(Dataset):
    """Read ``places365_train_challenge.txt``, or walk the folders by initial letter where that list is not there.

    ``/a/apartment_building/outdoor/00000001.jpg`` is of class ``apartment_building_outdoor``.
    """

    title = "Places365-Challenge train"
    kind = "open-set"
    licence = "non-commercial research and education"
    home = "http://places2.csail.mit.edu"
    published = "train_256_places365challenge.tar (or train_large_…) and filelist_places365-challenge.tar"
    archives = ("train_*_places365challenge.tar", "filelist_places365-challenge.tar")
    num_train = 8_026_628

    def is_unpacked(self, tree: Tree) -> bool:
        """Look for the images of either size."""
        return tree.find(*FOLDERS) is not None

    def rows(self, tree: Tree) -> Iterator[Row]:
        """Give the images in the order of the list, or by name."""
        folder = tree.need(*FOLDERS)
        listing = tree.find(LIST)
        if listing is None:
            for inner, path in walk(folder):
                yield Row("train", path, _class_of(inner.split("/")))
            return
        with listing.open(encoding="utf-8") as lines:
            for line in lines:
                if line.strip():
                    name = line.split()[0].lstrip("/")
                    yield Row("train", f"{folder}/{name}", _class_of(name.split("/")[:-1]))


def _class_of(parts: list[str]) -> str:
    """Join the folders below the initial letter."""
    return "_".join(parts[1:] if len(parts) > 1 and len(parts[0]) == 1 else parts)
