"""A batch of images of different sizes in one tensor, as it travels from the loader's workers to the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from simcore.errors import SimcoreError


@dataclass(frozen=True)
class ImageBatch:
    """Images padded with zeros, at the right and the bottom, to the largest height and width of the batch.

    Shape:
        pixels: uint8 ``[B, 3, H, W]``, RGB, best in the memory format ``channels_last``, which is that of decoded
            images: it is the cheapest both to collate and to make views of.
        sizes: int64 ``[B, 2]``, each image's true (height, width). They stay on the CPU wherever the pixels go,
            because every random draw is made there and needs them.
    """

    pixels: Tensor
    sizes: Tensor

    def __len__(self) -> int:
        return self.pixels.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the pixels are; the views are made there."""
        return self.pixels.device

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ImageBatch:
        """Give the batch with its pixels on ``device``."""
        return replace(self, pixels=self.pixels.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> ImageBatch:
        """Give the batch with its pixels in page-locked memory (the ``DataLoader`` calls this)."""
        return replace(self, pixels=self.pixels.pin_memory())


def collate(images: Sequence[np.ndarray]) -> ImageBatch:
    """Put decoded images on one canvas.

    Args:
        images: at least one uint8 array ``[height, width, 3]``; sizes may differ.

    Raises:
        SimcoreError: an array is of another type or shape, or there is none.
    """
    if not images:
        raise SimcoreError("a batch needs at least one image")
    for image in images:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            raise SimcoreError(f"an image must be uint8 [height, width, 3], not {image.dtype} {list(image.shape)}")
    sizes = torch.tensor([image.shape[:2] for image in images], dtype=torch.int64)
    height, width = sizes.amax(dim=0).tolist()
    canvas = torch.zeros(len(images), height, width, 3, dtype=torch.uint8)
    for place, image in zip(canvas.numpy(), images, strict=True):
        place[: image.shape[0], : image.shape[1]] = image
    return ImageBatch(canvas.permute(0, 3, 1, 2), sizes)
