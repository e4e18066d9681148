"""The middle of each image: the view that evaluation takes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from simcore.errors import UsageError
from simcore.settings import setting
from simcore.views._canvas import ImageBatch
from simcore.views._placement import center_crop
from simcore.views._render import IMAGENET_MEAN, IMAGENET_STD, render
from simcore.views._resample import BICUBIC, BILINEAR

__all__ = ["CenterView"]


@dataclass(frozen=True, kw_only=True)
class CenterView:
    """Resize of the short side, then the central square; nothing is drawn."""

    image_size: int = setting(224, "side of a view, in pixels")
    resize_size: int | None = setting(None, "the short side after resizing; by default 256 for 224, and in proportion")
    interpolation: str = setting("bilinear", "how pixels are weighted", choices=("bilinear", "bicubic"))
    mean: tuple[float, float, float] = setting(IMAGENET_MEAN, "subtracted from each channel")
    std: tuple[float, float, float] = setting(IMAGENET_STD, "what each channel is then divided by")

    def __post_init__(self) -> None:
        if not 1 <= self.image_size <= self._resize:
            raise UsageError(f"image_size is {self.image_size}, not between 1 and resize_size, {self._resize}")
        if self.interpolation not in ("bilinear", "bicubic"):
            raise UsageError(f"interpolation is '{self.interpolation}'; known: bicubic, bilinear")

    def __call__(self, batch: ImageBatch, generator: torch.Generator | None = None) -> list[Tensor]:
        """Make one float32 ``[B, 3, image_size, image_size]``; ``generator`` is there for likeness and not used."""
        placement = center_crop(batch.sizes, self.image_size, resize=self._resize)
        filter = BICUBIC if self.interpolation == "bicubic" else BILINEAR
        return [render(batch, placement, self.image_size, mean=self.mean, std=self.std, filter=filter)]

    @property
    def _resize(self) -> int:
        return round(self.image_size * 256 / 224) if self.resize_size is None else self.resize_size
