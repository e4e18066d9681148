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
    """Cubic convolution (Keys 1981), with a = -1/2."""
    x = distance.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((2.5 - 0.5 * x) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


BILINEAR = Filter(_triangle, 1.0)
BICUBIC = Filter(_cubic, 2.0)


class Resampling:
    """Crops, resizes and mirrors the images of a batch as ``placement`` says.

    Args:
        placement: of B images.
        size: S, the side of the square views.
        filter: how pixels are weighted.
        device: where the images are.
    """

    def __init__(self, placement: Placement, size: int, filter: Filter, device: torch.device) -> None:
        self._size = size
        self._vertical = _find_taps(placement, VERTICAL, size, filter, device)
        self._vertical.weights.div_(255)  # the levels of a pixel
        self._horizontal = _find_taps(placement, HORIZONTAL, size, filter, device)
        self._low, self._high = (bound.tolist() for bound in _windows(placement, size, filter))

    def apply(self, images: Tensor, piece: slice) -> Tensor:
        """Make the views of some of the images.

        Args:
            images: uint8 ``[num, H, W, 3]``.
            piece: which images of the batch they are.

        Returns:
            float32 ``[num, 3, S, S]`` in [0, 1]; a cubic kernel overshoots by a little.
        """
        num, size = len(images), self._size
        top, left = map(min, zip(*self._low[piece], strict=True))
        bottom, right = map(max, zip(*self._high[piece], strict=True))
        seen = images[:, top:bottom, left:right]  # no tap lies outside
        rows = seen.to(torch.float32, memory_format=torch.contiguous_format).view(num, bottom - top, -1)
        columns = _weighted_sums(rows, self._vertical, piece, top).view(num, size, right - left, 3)
        columns = columns.permute(0, 2, 3, 1).reshape(num, right - left, 3 * size)
        views = _weighted_sums(columns, self._horizontal, piece, left).view(num, size, 3, size)  # [num, x, 3, y]
        return views.permute(0, 2, 3, 1).contiguous()


@dataclass(frozen=True)
class _Taps:
    """Which image rows (or columns) each row (or column) of the views adds up, and by which weights.

    Shape:
        indices: int64 ``[B, S, num_taps]``, counted in the image.
        weights: float32 ``[B, S, num_taps]``; they add up to 1, or are 0 where a view needs fewer taps.
    """

    indices: Tensor
    weights: Tensor


def _find_taps(placement: Placement, axis: int, size: int, filter: Filter, device: torch.device) -> _Taps:
    """Work out the taps of every view of a batch along one axis, on ``device``."""
    stretch = placement.length[:, axis] / placement.resized[:, axis]
    num_taps = math.ceil(2 * filter.support * max(1.0, float(stretch.max())))
    geometry = torch.stack([placement.start, placement.length, placement.resized, placement.offset])[:, :, axis]
    mirrored = placement.flipped & (axis == HORIZONTAL)
    geometry = torch.cat([geometry, mirrored[None]]).to(device, non_blocking=True)
    start, length, resized, offset, flip = (row[:, None] for row in geometry)

    pixel = torch.arange(size, device=device).expand(len(placement), size)
    pixel = torch.where(flip.bool(), size - 1 - pixel, pixel) + offset
    scale = length / resized
    reach = scale.clamp(min=1)  # how far the kernel is stretched
    center = scale * (pixel + 0.5)
    first = (center - filter.support * reach + 0.5).long().clamp_(min=0)
    last = torch.minimum((center + filter.support * reach + 0.5).long(), length) - 1

    neighbour = first[..., None] + torch.arange(num_taps, device=device)
    weights = filter.kernel((neighbour - center[..., None] + 0.5) / reach[..., None])
    weights = weights * (neighbour <= last[..., None])
    weights /= weights.sum(dim=-1, keepdim=True)
    return _Taps(start[..., None] + torch.minimum(neighbour, last[..., None]), weights)


def _windows(placement: Placement, size: int, filter: Filter) -> tuple[Tensor, Tensor]:
    """Give the bounds, int64 ``[B, 2]``, of the part of each image that holds all its taps."""
    scale = placement.length / placement.resized
    reach = filter.support * scale.clamp(min=1) + 1  # one pixel for rounding
    low = (scale * placement.offset - reach).long().clamp_(min=0)
    high = torch.minimum((scale * (placement.offset + size) + reach).long(), placement.length)
    return placement.start + low, placement.start + high


def _weighted_sums(tables: Tensor, taps: _Taps, piece: slice, first: int) -> Tensor:
    """Multiply each table ``[R, F]`` of a stack from the left with its own sparse matrix: ``[num, S, F]``.

    ``piece`` says which images' taps they are, ``first`` which row of an image comes first in its table.
    """
    num_tables, num_rows, num_features = tables.shape
    shift = torch.arange(-first, num_tables * num_rows - first, num_rows, device=tables.device)
    indices = (taps.indices[piece] + shift[:, None, None]).flatten(0, 1)
    weights = taps.weights[piece].flatten(0, 1)
    sums = F.embedding_bag(indices, tables.view(-1, num_features), per_sample_weights=weights, mode="sum")
    return sums.view(num_tables, -1, num_features)
