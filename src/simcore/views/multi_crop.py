"""Two large views and several small ones of each image: what SwAV and DINO learn from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from simcore.errors import UsageError
from simcore.settings import setting
from simcore.views._canvas import ImageBatch
from simcore.views._photometric import Photometric
from simcore.views._random_view import RandomView, random_views
from simcore.views._render import IMAGENET_MEAN, IMAGENET_STD

__all__ = ["MultiCrop"]


@dataclass(frozen=True, kw_only=True)
class MultiCrop:
    """Two global views of large crops, then ``num_local`` views of small crops at a smaller size.

    Caron et al. 2020 (SwAV, section 3.2). The scales and colours are those of OpenSSL-SimCore (CVPR 2023);
    ``second`` and ``local`` give the second global view and the local ones colours of their own, as DINO has them
    (Caron et al. 2021, section 3.2).
    """

    image_size: int = setting(224, "side of a global view, in pixels")
    num_local: int = setting(6, "local views an image")
    local_size: int | None = setting(None, "side of a local view; by default 96 for 224, and in proportion")
    min_scale: float = setting(0.2, "smallest global crop, as a share of the image's area")
    max_scale: float = setting(1.0, "largest global crop")
    min_local_scale: float = setting(0.05, "smallest local crop")
    max_local_scale: float = setting(0.2, "largest local crop")
    flip_probability: float = setting(0.5, "how often a view is mirrored")
    photometric: Photometric = setting(Photometric(), "the colour operations")
    second: Photometric | None = setting(None, "those of the second global view, where they differ")
    local: Photometric | None = setting(None, "those of the local views, where they differ")
    mean: tuple[float, float, float] = setting(IMAGENET_MEAN, "subtracted from each channel")
    std: tuple[float, float, float] = setting(IMAGENET_STD, "what each channel is then divided by")

    def __post_init__(self) -> None:
        if self.num_local < 0:
            raise UsageError(f"num_local is {self.num_local}; it must be 0 or more")
        self._recipes()  # each checks its settings

    def __call__(self, batch: ImageBatch, generator: torch.Generator) -> list[Tensor]:
        """Make the views in order, global ones first; each draws its crops and flips, then its colours.

        Returns:
            two float32 ``[B, 3, image_size, image_size]``, then ``num_local`` of ``[B, 3, local_size, local_size]``,
            on the batch's device.
        """
        return random_views(self._recipes(), batch, generator)

    def _recipes(self) -> list[RandomView]:
        local_size = round(self.image_size * 96 / 224) if self.local_size is None else self.local_size
        large = (self.image_size, (self.min_scale, self.max_scale))
        small = (local_size, (self.min_local_scale, self.max_local_scale))
        first = self._recipe(*large, self.photometric)
        second = self._recipe(*large, self.second or self.photometric)
        local = self._recipe(*small, self.local or self.photometric)
        return [first, second] + [local] * self.num_local

    def _recipe(self, size: int, scale: tuple[float, float], photometric: Photometric) -> RandomView:
        return RandomView(
            size=size,
            scale=scale,
            flip_probability=self.flip_probability,
            photometric=photometric,
            mean=self.mean,
            std=self.std,
        )
