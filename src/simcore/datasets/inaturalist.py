"""iNaturalist 2021, the small training set."""

from __future__ import annotations

import dataclasses
import json
import types
from collections.abc import Iterator
from pathlib import Path

from simcore.datasets._dataset import Dataset, Row
from simcore.datasets._tree import Tree, walk
from simcore.errors import SimcoreError

__all__ = ["INaturalist"]

FOLDERS = ("train_mini", "2021_train_mini")
RANKS = ("kingdom", "phylum", "class", "order", "family", "genus")


@dataclasses.dataclass(frozen=True, kw_only=True)
class INaturalist(Dataset):
    """Read ``train_mini/<number>_<kingdom>_…_<genus>_<epithet>/``, by ``train_mini.json`` if it is there."""

    title = "iNaturalist 2021 train_mini"
    kind = "open-set"
    licence = "non-commercial research; each image under its own licence"
    home = "https://github.com/visipedia/inat_comp/tree/master/2021"
    published = "train_mini.tar.gz, and train_mini.json.tar.gz if at hand"
    archives = ("train_mini.tar.gz", "train_mini.json.tar.gz", "2021_train_mini.tgz")
    num_train = 500_000
    attributes = types.MappingProxyType({"species": None, **dict.fromkeys(RANKS)})

    def is_unpacked(self, tree: Tree) -> bool:
        """Look for the folder under either of its names."""
        return tree.find(*FOLDERS) is not None

    def rows(self, tree: Tree) -> Iterator[Row]:
        """Give the images by class and name, or as the JSON lists them."""
        folder = tree.need(*FOLDERS)
        listing = tree.find("train_mini.json")
        found = _listed(listing, folder) if listing else walk(folder)
        for species, path in found:
            if species:
                yield Row("train", path, species, _ranks(species))


def _listed(listing: Path, folder: Path) -> Iterator[tuple[str, str]]:
    """Read the file names (``train_mini/<species>/<name>.jpg``) of a COCO-like JSON."""
    try:
        images = json.loads(listing.read_text("utf-8"))["images"]
        names = [image["file_name"].split("/")[-2:] for image in images]
    except (ValueError, KeyError, TypeError) as error:
        raise SimcoreError(f"{listing}: not the list of images that iNaturalist publishes ({error})") from error
    yield from ((species, f"{folder}/{species}/{name}") for species, name in names)


def _ranks(species: str) -> dict[str, str]:
    """Take the ranks from a folder name of eight parts."""
    words = species.split("_")
    ranks = dict(zip(RANKS, words[1:7], strict=True)) if len(words) == 8 else {}
    return {"species": species, **ranks}
