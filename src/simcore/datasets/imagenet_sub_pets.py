"""The part of ImageNet that resembles the target `pets`, picked by hand: 24 breeds of cats and dogs."""

from __future__ import annotations

import dataclasses

from simcore.datasets._imagenet_part import ImageNetPart
from simcore.settings import setting

__all__ = ["ImageNetSubPets"]

SYNSETS = (
    "n02124075", "n02123394", "n02123597", "n02123159", "n02108089", "n02112350", "n02088238", "n02100735",
    "n02107312", "n02085620", "n02111500", "n02100236", "n02088364", "n02093256", "n02102318", "n02111277",
    "n02112018", "n02111129", "n02098105", "n02111889", "n02097298", "n02110958", "n02109525", "n02094433",
)  # fmt: skip
"""The published list (``imagenet_sub_pets.txt`` of the released SimCore code)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageNetSubPets(ImageNetPart):
    """ImageNet's images of 24 synsets."""

    title = "ImageNet-1k, the synsets like pets"
    num_classes = 24

    synsets: tuple[str, ...] = setting(SYNSETS, "WordNet ids of the classes kept")
