"""Parts of ImageNet picked by hand for one target: the yardstick of an ideal choice by class."""

from __future__ import annotations

import dataclasses
import re
from typing import ClassVar

from simcore.datasets.imagenet import SYNSET, ImageNet
from simcore.errors import UsageError


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageNetPart(ImageNet):
    """ImageNet's images of the ``synsets`` alone; a subclass gives the published ones as the default."""

    num_train: ClassVar[int | None] = None

    synsets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        wrong = [name for name in self.synsets if not re.fullmatch(SYNSET, name)]
        if wrong or not self.synsets:
            raise UsageError(f"synsets are WordNet ids such as n02690373, not {', '.join(wrong) or 'an empty list'}")

    def keeps(self, synset: str) -> bool:
        """Keep the listed synsets."""
        return synset in self.synsets

    def wants(self, member: str) -> bool:
        """Unpack the listed synsets alone."""
        named = re.search(rf"{SYNSET}", member)
        return super().wants(member) and (named is None or named.group() in self.synsets)
