"""One random view of each image; the view makers are made of these."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from simcore.errors import UsageError
from simcore.views._canvas import ImageBatch
from simcore.views._photometric import Photometric
from simcore.views._placement import random_resized_crop
from simcore.views._render import render
from simcore.views._resample import BILINEAR, Filter


@dataclass(frozen=True, kw_only=True)
class RandomView:
    """Random resized crop and flip, then the colour operations if there are any, then normalisation."""

    size: int
    scale: tuple[float, float]
    flip_probability: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    photometric: Photometric | None = None
    filter: Filter = BILINEAR

    def __post_init__(self) -> None:
        low, high = self.scale
        if self.size < 1:
            raise UsageError(f"a view of {self.size} pixels cannot be made; the least is 1")
        if not 0 < low <= high <= 1:
            raise UsageError(f"the crops' scale, {low} to {high}, is not 0 < min_scale <= max_scale <= 1")
        if not 0 <= self.flip_probability <= 1:
            raise UsageError(f"flip_probability is {self.flip_probability}, outside 0 to 1")
        if min(self.std) <= 0:
            raise UsageError(f"std is {self.std}; every channel's must be above 0")

    def __call__(self, batch: ImageBatch, generator: torch.Generator) -> Tensor:
        """Draw the crops and flips, then the colours, and make the view: float32 ``[B, 3, size, size]``."""
        placement = random_resized_crop(
            batch.sizes,
            self.size,
            scale=self.scale,
            flip_probability=self.flip_probability,
            generator=generator,
        )
        colours = None if self.photometric is None else self.photometric.draw(len(batch), generator)
        return render(batch, placement, self.size, mean=self.mean, std=self.std, filter=self.filter, colours=colours)
