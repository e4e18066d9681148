"""WebVision 1.0: images that Google and Flickr answered to queries for ImageNet's classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from simcore.datasets._dataset import Dataset, Row
from simcore.datasets._tree import Tree, walk

__all__ = ["WebVision"]

FOLDERS = {engine: (engine, f"{engine}_resized_256") for engine in ("google", "flickr")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class WebVision(Dataset):
    """Read ``info/train_filelist_google.txt`` and ``…_flickr.txt``; classes are the synsets of ``info/synsets.txt``.

    Where the lists are not there, the folders of the queries are the classes (``google_q0001``), as published.
    """

    title = "WebVision 1.0 train"
    kind = "open-set"
    licence = "non-commercial research and education"
    home = "https://data.vision.ee.ethz.ch/cvl/webvision/dataset2017.html"
    published = "google.tar, flickr.tar and info.tar"
    archives = ("google*.tar", "flickr*.tar", "info.tar")
    num_train = 2_446_037
    columns = ("engine",)

    def is_unpacked(self, tree: Tree) -> bool:
        """Look for the images of both engines."""
        return all(tree.find(*folders) is not None for folders in FOLDERS.values())

    def rows(self, tree: Tree) -> Iterator[Row]:
        """Give Google's images, then Flickr's, in the order of the lists."""
        synsets = [line.split()[0] for line in tree.lines("synsets.txt")] if tree.find("synsets.txt") else []
        for engine, folders in FOLDERS.items():
            folder = tree.need(*folders)
            listing = tree.find(f"train_filelist_{engine}.txt", f"info/train_filelist_{engine}.txt")
            found = _listed(listing, folder, synsets) if listing else _walked(folder, engine)
            yield from (Row("train", path, label, {"engine": engine}) for path, label in found)


def _listed(listing: Path, folder: Path, synsets: list[str]) -> Iterator[tuple[str, str]]:
    """Read lines ``google/q0001/name.jpg 0``; the number counts the synsets from 0."""
    with listing.open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                name, number = line.rsplit(maxsplit=1)
                label = synsets[int(number)] if int(number) < len(synsets) else f"class_{number}"
                yield f"{folder}/{name.partition('/')[2]}", label


def _walked(folder: Path, engine: str) -> Iterator[tuple[str, str]]:
    for inner, path in walk(folder):
        if inner:
            yield path, f"{engine}_{inner.partition('/')[0]}"
