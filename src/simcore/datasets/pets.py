"""Oxford-IIIT Pet: 37 breeds of cats and dogs, with trimaps."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator

from simcore.datasets._dataset import Dataset, Row
from simcore.datasets._tree import Tree

__all__ = ["Pets"]

SPECIES = {"1": "cat", "2": "dog"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pets(Dataset):
    """Read ``annotations/trainval.txt`` and ``test.txt``; masks are ``annotations/trimaps``."""

    title = "Oxford-IIIT Pet"
    licence = "CC BY-SA 4.0"
    home = "https://www.robots.ox.ac.uk/~vgg/data/pets/"
    published = "images.tar.gz and annotations.tar.gz"
    archives = ("images.tar.gz", "annotations.tar.gz")
    markers = ("annotations/trainval.txt", "annotations/test.txt", "images")
    num_classes, num_train, num_test, metric = 37, 3680, 3669, "mean_per_class"
    attributes = types.MappingProxyType({"breed": 37, "species": None})
    mask_values = "1 foreground, 2 background, 3 and 0 ignored"
    mask_classes = ("background=2", "foreground=1")

    def rows(self, tree: Tree) -> Iterator[Row]:
        """Read lines such as ``Abyssinian_100 1 1 1``: name, class, species (1 cat, 2 dog), breed of the species."""
        images, masks = tree.need("images"), tree.find("annotations/trimaps")
        for split, part in (("train", "trainval"), ("test", "test")):
            for line in tree.lines(f"annotations/{part}.txt"):
                if line.startswith("#"):
                    continue
                name, _, species, *_ = line.split()
                breed = name.rpartition("_")[0]
                attributes = {"breed": breed, "species": SPECIES.get(species, "")}
                mask = f"{masks}/{name}.png" if masks else ""
                yield Row(split, f"{images}/{name}.jpg", breed, attributes, mask=mask)
