"""One view of each image and the patches to hide in it: what masked autoencoders learn from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from simcore.errors import UsageError
from simcore.settings import setting
from simcore.views._canvas import ImageBatch
from simcore.views._random_view import RandomView, random_views
from simcore.views._render import IMAGENET_MEAN, IMAGENET_STD
from simcore.views._resample import BICUBIC

__all__ = ["Masked", "PatchMasks", "draw_patch_masks"]


@dataclass(frozen=True, kw_only=True)
class Masked:
    """Random resized crop, bicubic, and flip (He et al. 2022, MAE, appendix A)."""

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
            filter=BICUBIC,
        )


@dataclass(frozen=True)
class PatchMasks:
    """A random partition of each view's patches into those shown and those hidden.

    Shape:
        shown: int64 ``[B, num_shown]``, numbers of patches, in random order.
        hidden: int64 ``[B, num_patches - num_shown]``.
    """

    shown: Tensor
    hidden: Tensor

    def to(self, device: torch.device | str) -> PatchMasks:
        """Give the masks on ``device``."""
        return PatchMasks(self.shown.to(device, non_blocking=True), self.hidden.to(device, non_blocking=True))

    @property
    def restore(self) -> Tensor:
        """Where each patch is in (shown, then hidden): int64 ``[B, num_patches]``, to put tokens back in order."""
        return torch.cat([self.shown, self.hidden], dim=1).argsort(dim=1)

    @property
    def is_hidden(self) -> Tensor:
        """Bool ``[B, num_patches]``."""
        return self.restore >= self.shown.shape[1]


def draw_patch_masks(
    num_images: int, num_patches: int, generator: torch.Generator, *, mask_ratio: float = 0.75
) -> PatchMasks:
    """Hide a uniformly random share of the patches of each image (He et al. 2022, section 3).

    Args:
        num_images: B.
        num_patches: patches a view.
        generator: on the CPU, as the masks are.
        mask_ratio: the share that is hidden; ``int(num_patches * (1 - mask_ratio))`` patches are shown.

    Raises:
        UsageError: no patch would be shown.
    """
    num_shown = int(num_patches * (1 - mask_ratio))
    if not 1 <= num_shown <= num_patches:
        raise UsageError(
            f"mask_ratio {mask_ratio} of {num_patches} patches leaves {num_shown}; at least 1 must be shown"
        )
    order = torch.rand(num_images, num_patches, generator=generator).argsort(dim=1, stable=True)
    return PatchMasks(order[:, :num_shown], order[:, num_shown:])
