"""Crop, resize and mirror a batch of images, each by its own placement, with antialiasing.

A pixel of a resized image is a weighted sum of a few neighbours along each axis, so a resize is two products with
sparse matrices: ``view = Wy · image · Wxᵀ``. A matrix is kept as its non-zero entries, ``num_taps`` an output pixel,
and ``embedding_bag`` is the product: 2 to 10 multiplications an entry where the dense product takes 32 to 500.
A crop shifts the indices and a mirrored view reverses them, so both are free.

The weights are those of Pillow and of ``torch.nn.functional.interpolate(antialias=True)``: a kernel stretched by the
scale when shrinking, cut at the border of the crop, and normalised.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from simcore.views._placement import Placement

VERTICAL, HORIZONTAL = 0, 1


@dataclass(frozen=True)
class Filter:
    """An interpolation kernel of the distance in pixels, and the distance from which on it is zero."""

    kernel: Callable[[Tensor], Tensor]
    support: float


def _triangle(distance: Tensor) -> Tensor:
    return (1 - distance.abs()).clamp_(min=0)


def _cubic(distance: Tensor) -> Tensor:
    """Cubic convolution (Keys 1981, eq. 4, with a = -1/2)."""
    x = distance.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((2.5 - 0.5 * x) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


BILINEAR = Filter(_triangle, 1.0)
BICUBIC = Filter(_cubic, 2.0)


@dataclass(frozen=True)
class Taps:
    """Which image rows (or columns) each row (or column) of the views adds up, and by which weights.

    Shape:
        indices: int64 ``[B, S, num_taps]``, counted in the image.
        weights: float32 ``[B, S, num_taps]``; they add up to 1, or are 0 where a view needs fewer taps.
    """

    indices: Tensor
    weights: Tensor

    def __getitem__(self, rows: slice) -> Taps:
        return Taps(self.indices[rows], self.weights[rows])


def find_taps(placement: Placement, axis: int, view_size: int, filter: Filter, device: torch.device) -> Taps:
    """Work out the taps of every view of a batch along one axis, on ``device``."""
    stretch = placement.length[:, axis] / placement.resized[:, axis]
    num_taps = math.ceil(2 * filter.support * max(1.0, float(stretch.max())))
    geometry = torch.stack([placement.start, placement.length, placement.resized, placement.offset])[:, :, axis]
    mirrored = placement.flipped & (axis == HORIZONTAL)
    geometry = torch.cat([geometry, mirrored[None]]).to(device, non_blocking=True)
    start, length, resized, offset, flip = (row[:, None] for row in geometry)

    pixel = torch.arange(view_size, device=device).expand(len(placement), view_size)
    pixel = torch.where(flip.bool(), view_size - 1 - pixel, pixel) + offset
    scale = length / resized
    reach = scale.clamp(min=1)  # how far the kernel is stretched
    center = scale * (pixel + 0.5)
    first = (center - filter.support * reach + 0.5).long().clamp_(min=0)
    last = torch.minimum((center + filter.support * reach + 0.5).long(), length) - 1

    neighbour = first[..., None] + torch.arange(num_taps, device=device)
    weights = filter.kernel((neighbour - center[..., None] + 0.5) / reach[..., None])
    weights = weights * (neighbour <= last[..., None])
    weights /= weights.sum(dim=-1, keepdim=True)
    return Taps(start[..., None] + torch.minimum(neighbour, last[..., None]), weights)


@dataclass(frozen=True)
class Windows:
    """The part of the canvas that holds every tap of each view: int64 ``[B, 2]``, (vertical, horizontal), CPU."""

    low: Tensor
    high: Tensor

    def around(self, rows: slice) -> tuple[slice, slice]:
        """Give the (vertical, horizontal) slices of the canvas that hold the windows of some images."""
        top, left = self.low[rows].amin(dim=0).tolist()
        bottom, right = self.high[rows].amax(dim=0).tolist()
        return slice(top, bottom), slice(left, right)


def find_windows(placement: Placement, view_size: int, filter: Filter) -> Windows:
    """Work out what each view needs of its image, so that no more is read."""
    scale = placement.length / placement.resized
    reach = filter.support * scale.clamp(min=1) + 1  # one pixel for rounding
    low = (scale * placement.offset - reach).long().clamp_(min=0)
    high = torch.minimum((scale * (placement.offset + view_size) + reach).long(), placement.length)
    return Windows(placement.start + low, placement.start + high)


def resample(pixels: Tensor, vertical: Taps, horizontal: Taps, window: tuple[slice, slice]) -> Tensor:
    """Make the views of some images.

    Args:
        pixels: uint8 ``[B, 3, H, W]``.
        vertical: taps along the height, of the same images.
        horizontal: taps along the width.
        window: the (vertical, horizontal) part of the canvas that holds every tap.

    Returns:
        float32 ``[B, 3, S, S]`` in [0, 1]; a cubic kernel overshoots by a little.
    """
    batch, size = vertical.indices.shape[:2]
    seen = pixels[:, :, *window].permute(0, 2, 3, 1)
    rows = seen.to(torch.float32, memory_format=torch.contiguous_format).flatten(2)  # [B, h, w · 3]
    vertical = Taps(vertical.indices - window[0].start, vertical.weights / 255)
    horizontal = Taps(horizontal.indices - window[1].start, horizontal.weights)
    columns = _weighted_sums(rows, vertical).view(batch, size, -1, 3).permute(0, 2, 3, 1)  # [B, w, 3, S]
    views = _weighted_sums(columns.flatten(2), horizontal).view(batch, size, 3, size)  # [B, x, 3, y]
    return views.permute(0, 2, 3, 1).contiguous()


def _weighted_sums(tables: Tensor, taps: Taps) -> Tensor:
    """Multiply each table ``[R, F]`` of a stack from the left with its own sparse matrix: ``[B, S, F]``."""
    num_tables, num_rows, num_features = tables.shape
    shift = torch.arange(0, num_tables * num_rows, num_rows, device=tables.device)
    indices = (taps.indices + shift[:, None, None]).flatten(0, 1)
    weights = taps.weights.flatten(0, 1)
    sums = F.embedding_bag(indices, tables.flatten(0, 1), per_sample_weights=weights, mode="sum")
    return sums.view(num_tables, -1, num_features)
