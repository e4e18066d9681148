"""The part of ImageNet that resembles the target `cars`, picked by hand: ten kinds of car."""

from __future__ import annotations

import dataclasses

from simcore.datasets._imagenet_part import ImageNetPart
from simcore.settings import setting

__all__ = ["ImageNetSubCars"]

SYNSETS = (
    "n02701002", "n02814533", "n02930766", "n03100240", "n03594945", "n03670208", "n03770679", "n03777568",
    "n04037443", "n04285008",
)  # fmt: skip
"""The published list (``imagenet_sub_cars.txt`` of the released SimCore code)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageNetSubCars(ImageNetPart):
    """ImageNet's images of 10 synsets."""

    title = "ImageNet-1k, the synsets like cars"
    num_classes = 10

    synsets: tuple[str, ...] = setting(SYNSETS, "WordNet ids of the classes kept")
