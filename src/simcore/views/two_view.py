"""Two random views of each image: what SimCLR, MoCo, BYOL and SimSiam learn from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from simcore.settings import setting
from simcore.views._canvas import ImageBatch
from simcore.views._photometric import Photometric
from simcore.views._random_view import RandomView, random_views
from simcore.views._render import IMAGENET_MEAN, IMAGENET_STD

__all__ = ["TwoView"]


@dataclass(frozen=True, kw_only=True)
class TwoView:
    """Random resized crop, flip, colour jitter and grayscale, twice, independently.

    The defaults are the recipe of OpenSSL-SimCore (CVPR 2023). ``second`` gives the second view a recipe of its own,
    as BYOL has it (Grill et al. 2020, appendix B).
    """

    image_size: int = setting(224, "side of a view, in pixels")
    min_scale: float = setting(0.2, "smallest crop, as a share of the image's area")
    max_scale: float = setting(1.0, "largest crop")
    flip_probability: float = setting(0.5, "how often a view is mirrored")
    photometric: Photometric = setting(Photometric(), "the colour operations")
    second: Photometric | None = setting(None, "those of the second view, where they differ")
    mean: tuple[float, float, float] = setting(IMAGENET_MEAN, "subtracted from each channel")
    std: tuple[float, float, float] = setting(IMAGENET_STD, "what each channel is then divided by")

    def __post_init__(self) -> None:
        self._recipes()  # each checks its settings

    def __call__(self, batch: ImageBatch, generator: torch.Generator) -> list[Tensor]:
        """Make the two views; the draws are the first view's crops, flips and colours, then the second's.

        Returns:
            two float32 ``[B, 3, image_size, image_size]`` on the batch's device.
        """
        return random_views(self._recipes(), batch, generator)

    def _recipes(self) -> list[RandomView]:
        return [
            RandomView(
                size=self.image_size,
                scale=(self.min_scale, self.max_scale),
                flip_probability=self.flip_probability,
                photometric=photometric,
                mean=self.mean,
                std=self.std,
            )
            for photometric in (self.photometric, self.second or self.photometric)
        ]
