"""ImageNet-1k (ILSVRC 2012), its training images."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import ClassVar

from simcore.datasets._dataset import Dataset, Row
from simcore.datasets._tree import Tree, walk
from simcore.errors import SimcoreError

__all__ = ["ImageNet"]

SYNSET = r"n\d{8}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageNet(Dataset):
    """Read the folders named by synset, wherever they lie (``ILSVRC/Data/CLS-LOC/train``, ``train``, …).

    ``ILSVRC2012_img_train.tar``, which holds one tar per synset, is unpacked whole, and so is a folder of those tars.
    """

    title = "ImageNet-1k (ILSVRC 2012) train"
    kind = "open-set"
    licence = "non-commercial research and education"
    home = "https://www.image-net.org"
    published = "ILSVRC2012_img_train.tar, or the tars or folders of its synsets"
    archives = ("ILSVRC2012_img_train.tar", "imagenet-object-localization-challenge.zip", "n????????.tar")
    num_train: ClassVar[int | None] = 1_281_167

    def is_unpacked(self, tree: Tree) -> bool:
        """Look for folders named by synset."""
        return tree.find("CLS-LOC/train") is not None or tree.folder_holding(SYNSET) is not None

    def shelf(self, archive: str) -> str:
        """Unpack the tar of a synset into a folder of its name."""
        stem = archive.removesuffix(".tar")
        return f"train/{stem}" if re.fullmatch(SYNSET, stem) else ""

    def wants(self, member: str) -> bool:
        """Leave validation and test images in the archive."""
        return not re.search(r"(^|/)(val|test)/", member)

    def keeps(self, synset: str) -> bool:
        """Tell whether a synset is part of the set."""
        return True

    def rows(self, tree: Tree) -> Iterator[Row]:
        """Give the images by synset and name."""
        folder = tree.find("CLS-LOC/train") or tree.folder_holding(SYNSET)
        if folder is None:
            raise SimcoreError(f"{tree.called}: no folders named by synset (n01440764, …) there{tree.hint}")
        for child in sorted(folder.iterdir()):
            if re.fullmatch(SYNSET, child.name) and child.is_dir() and self.keeps(child.name):
                for _, path in walk(child):
                    yield Row("train", path, child.name)
