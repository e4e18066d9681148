"""The part of ImageNet that resembles the target `aircraft`, picked by hand.

Airliner, warplane, airship and space shuttle, and four birds: egret, stork, crane and spoonbill.
"""

from __future__ import annotations

import dataclasses

from simcore.datasets._imagenet_part import ImageNetPart
from simcore.settings import setting

__all__ = ["ImageNetSubAircraft"]

SYNSETS = (
    "n02690373", "n04552348", "n02692877", "n04266014", "n02009912", "n02002556", "n02012849", "n02006656",
)  # fmt: skip
"""The published list (``imagenet_sub_aircraft.txt`` of the released SimCore code)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageNetSubAircraft(ImageNetPart):
    """ImageNet's images of 8 synsets."""

    title = "ImageNet-1k, the synsets like aircraft"
    num_classes = 8

    synsets: tuple[str, ...] = setting(SYNSETS, "WordNet ids of the classes kept")
