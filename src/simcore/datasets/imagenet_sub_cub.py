"""The part of ImageNet that resembles the target `cub`, picked by hand: twenty birds."""

from __future__ import annotations

import dataclasses

from simcore.datasets._imagenet_part import ImageNetPart
from simcore.settings import setting

__all__ = ["ImageNetSubCub"]

SYNSETS = (
    "n01855032", "n02027492", "n02028035", "n02058221", "n02051845", "n01537544", "n01530575", "n01531178",
    "n01532829", "n01534433", "n01560419", "n01558993", "n01580077", "n01582220", "n01592084", "n01608432",
    "n01833805", "n01843065", "n01828970", "n01806567",
)  # fmt: skip
"""The published list (``imagenet_sub_cub.txt`` of the released SimCore code)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageNetSubCub(ImageNetPart):
    """ImageNet's images of 20 synsets."""

    title = "ImageNet-1k, the synsets like cub"
    num_classes = 20

    synsets: tuple[str, ...] = setting(SYNSETS, "WordNet ids of the classes kept")
