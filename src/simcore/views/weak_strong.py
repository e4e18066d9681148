"""Weak and strong views of each image: what semi-supervised learning compares."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from simcore.errors import UsageError
from simcore.settings import setting
from simcore.views._canvas import ImageBatch
from simcore.views._rand_augment import RandAugment
from simcore.views._random_view import RandomView, random_views
from simcore.views._render import IMAGENET_MEAN, IMAGENET_STD

__all__ = ["WeakStrong"]


@dataclass(frozen=True, kw_only=True)
class WeakStrong:
    """``num_weak`` views by random resized crop and flip, then ``num_strong`` to which RandAugment is added.

    The weak view is that of supervised fine-tuning, the strong one RandAugment(2, 10), as in the semi-supervised
    part of Kim et al. 2023. Either number may be 0.
    """

    image_size: int = setting(224, "side of a view, in pixels")
    num_weak: int = setting(1, "weak views an image")
    num_strong: int = setting(1, "strong views an image")
    min_scale: float = setting(0.2, "smallest crop, as a share of the image's area")
    max_scale: float = setting(1.0, "largest crop")
    flip_probability: float = setting(0.5, "how often a view is mirrored")
    rand_augment: RandAugment = setting(RandAugment(), "what is added for a strong view")
    mean: tuple[float, float, float] = setting(IMAGENET_MEAN, "subtracted from each channel")
    std: tuple[float, float, float] = setting(IMAGENET_STD, "what each channel is then divided by")

    def __post_init__(self) -> None:
        if min(self.num_weak, self.num_strong) < 0 or self.num_weak + self.num_strong == 0:
            raise UsageError(f"num_weak is {self.num_weak}, num_strong {self.num_strong}: that makes no view")
        self._recipe(self.mean, self.std)  # it checks its settings

    def __call__(self, batch: ImageBatch, generator: torch.Generator) -> list[Tensor]:
        """Make the views, weak ones first, each float32 ``[B, 3, image_size, image_size]``.

        Each view draws its crops and flips, then a strong one its operations.
        """
        weak = self._recipe(self.mean, self.std)
        return random_views([weak] * self.num_weak, batch, generator) + [
            self._strong(batch, generator) for _ in range(self.num_strong)
        ]

    def _strong(self, batch: ImageBatch, generator: torch.Generator) -> Tensor:
        (plain,) = random_views([self._recipe((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))], batch, generator)
        view = self.rand_augment(plain, generator)
        mean, std = torch.tensor([self.mean, self.std])[..., None, None].to(view.device)
        return view.sub_(mean).div_(std)

    def _recipe(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> RandomView:
        return RandomView(
            size=self.image_size,
            scale=(self.min_scale, self.max_scale),
            flip_probability=self.flip_probability,
            mean=mean,
            std=std,
        )
