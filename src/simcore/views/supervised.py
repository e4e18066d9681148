"""One random view of each image, its colours as they are: what fine-tuning with labels takes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from simcore.settings import setting
from simcore.views._canvas import ImageBatch
from simcore.views._random_view import RandomView, random_views
from simcore.views._render import IMAGENET_MEAN, IMAGENET_STD

__all__ = ["Supervised"]


@dataclass(frozen=True, kw_only=True)
class Supervised:
    """Random resized crop and flip."""

    image_size: int = setting(224, "side of a view, in pixels")
    min_scale: float = setting(0.2, "smallest crop, as a share of the image's area")
    max_scale: float = setting(1.0, "largest crop")
    flip_probability: float = setting(0.5, "how often a view is mirrored")
    mean: tuple[float, float, float] = setting(IMAGENET_MEAN, "subtracted from each channel")
    std: tuple[float, float, float] = setting(IMAGENET_STD, "what each channel is then divided by")

    def __post_init__(self) -> None:
        self._recipe()  # it checks its settings

    def __call__(self, batch: ImageBatch, generator: torch.Generator) -> list[Tensor]:
        """Draw the crops, then the flips, and make one float32 ``[B, 3, image_size, image_size]``."""
        return random_views([self._recipe()], batch, generator)

    def _recipe(self) -> RandomView:
        return RandomView(
            size=self.image_size,
            scale=(self.min_scale, self.max_scale),
            flip_probability=self.flip_probability,
            mean=self.mean,
            std=self.std,
        )
