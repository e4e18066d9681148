"""A batch of images of different sizes in one tensor, as it travels from the loader's workers to the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from simcore.errors import SimcoreError

MAX_ASPECT = 8
TINY_SIDE = 64


@dataclass(frozen=True)
class ImageBatch:
    """Images padded with zeros, at the right and the bottom, to the largest height and width of the batch.

    Shape:
        pixels: uint8 ``[B, 3, H, W]``, RGB, best in the memory format ``channels_last``, which is that of decoded
            images: it is the cheapest both to collate and to make views of.
        sizes: int64 ``[B, 2]``, each image's (height, width) on the canvas. They stay on the CPU wherever the pixels
            go, because every random draw is made there and needs them.
    """

    pixels: Tensor
    sizes: Tensor

    def __len__(self) -> int:
        return self.pixels.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the pixels are; the views are made there."""
        return self.pixels.device

    @property
    def short_passes(self) -> bool:
        """Whether it pays to make few views at a time, of images that need the same.

        It does where they then stay in a core's cache; an accelerator spends more on beginning an operation than on
        some images more in it.
        """
        return self.device.type == "cpu"

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ImageBatch:
        """Give the batch with its pixels on ``device``."""
        return replace(self, pixels=self.pixels.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> ImageBatch:
        """Give the batch with its pixels in page-locked memory (the ``DataLoader`` calls this)."""
        return replace(self, pixels=self.pixels.pin_memory())


def collate(images: Sequence[np.ndarray]) -> ImageBatch:
    """Put decoded images on one canvas.

    Of a needle, whose long side is more than ``MAX_ASPECT`` times its short side, only the central part is kept, since
    every image of the batch takes as much memory as the longest sides. No view whose crops have a fifth of an image's
    area or more can tell: their aspect ratio is at most 4:3, so in a needle of more than 7:1 no crop fits but the
    central one. Images of few pixels (``TINY_SIDE``) keep their whole length.

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
    images = [_without_ends(image) for image in images]
    sizes = torch.tensor([image.shape[:2] for image in images], dtype=torch.int64)
    height, width = sizes.amax(dim=0).tolist()
    canvas = torch.zeros(len(images), height, width, 3, dtype=torch.uint8)
    for place, image in zip(canvas.numpy(), images, strict=True):
        place[: image.shape[0], : image.shape[1]] = image
    return ImageBatch(canvas.permute(0, 3, 1, 2), sizes)


def joined(batches: Sequence[ImageBatch]) -> list[ImageBatch]:
    """Put batches on one canvas where long passes pay, unless it had more than twice the pixels of theirs."""
    if len(batches) < 2 or batches[0].short_passes:
        return list(batches)
    height, width = (max(batch.pixels.shape[axis] for batch in batches) for axis in (2, 3))
    num_pixels = sum(batch.pixels[:, 0].numel() for batch in batches)
    if sum(map(len, batches)) * height * width > 2 * num_pixels:
        return list(batches)
    canvas = batches[0].pixels.new_zeros(sum(map(len, batches)), height, width, 3)
    start = 0
    for batch in batches:
        pixels = batch.pixels.permute(0, 2, 3, 1)
        canvas[start : start + len(batch), : pixels.shape[1], : pixels.shape[2]] = pixels
        start += len(batch)
    return [ImageBatch(canvas.permute(0, 3, 1, 2), torch.cat([batch.sizes for batch in batches]))]


def _without_ends(image: np.ndarray) -> np.ndarray:
    height, width, _ = image.shape
    longest = MAX_ASPECT * max(min(height, width), TINY_SIDE)
    top, left = max(0, height - longest) // 2, max(0, width - longest) // 2
    return image[top : height - top, left : width - left]
