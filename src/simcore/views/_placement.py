"""Which part of each image a view shows: drawn or computed for a whole batch at once.

The rules are torchvision's (``RandomResizedCrop``, and ``Resize`` with ``CenterCrop``), so that a published recipe
keeps its meaning here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NUM_TRIES = 10


@dataclass(frozen=True)
class Placement:
    """How each view lies in its image; int64 ``[B, 2]`` tensors on the CPU, (vertical, horizontal).

    The part of the image that begins at ``start`` and is ``length`` pixels long is resized to ``resized`` pixels, of
    which the view shows those from ``offset`` on. ``flipped``, bool ``[B]``, mirrors a view left to right.
    """

    start: Tensor
    length: Tensor
    resized: Tensor
    offset: Tensor
    flipped: Tensor

    def __getitem__(self, rows: Tensor | slice) -> Placement:
        parts = (self.start, self.length, self.resized, self.offset, self.flipped)
        return Placement(*(part[rows] for part in parts))

    def __len__(self) -> int:
        return len(self.start)

    @classmethod
    def joined(cls, parts: Sequence[Placement]) -> Placement:
        """Put one after the other."""
        columns = zip(*((p.start, p.length, p.resized, p.offset, p.flipped) for p in parts), strict=True)
        return cls(*(torch.cat(column) for column in columns))


def random_resized_crop(
    sizes: Tensor,
    view_size: int,
    *,
    scale: tuple[float, float],
    flip_probability: float,
    generator: torch.Generator,
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Placement:
    """Draw one box an image as torchvision's ``RandomResizedCrop`` does, and whether to mirror it.

    Draws, in this order: ``NUM_TRIES`` areas an image, as many aspect ratios, two positions, one flip.

    Args:
        sizes: int64 ``[B, 2]``, (height, width).
        view_size: the side of the square view, in pixels.
        scale: bounds of the box's share of the image's area.
        flip_probability: how often a view is mirrored.
        generator: on the CPU.
        ratio: bounds of the box's width over its height, drawn log-uniformly.
    """
    length, fits = _draw_lengths(sizes, scale, ratio, generator)
    room = sizes - length
    anywhere = (_uniform(sizes.shape, generator) * (room + 1)).long().clamp_(max=room)
    start = torch.where(fits, anywhere, room // 2)
    flipped = _uniform((len(sizes),), generator) < flip_probability
    return Placement(start, length, torch.full_like(sizes, view_size), torch.zeros_like(sizes), flipped)


def center_crop(sizes: Tensor, view_size: int, *, resize: int) -> Placement:
    """Place torchvision's ``Resize(resize)``, of the short side, followed by ``CenterCrop(view_size)``.

    Args:
        sizes: int64 ``[B, 2]``, (height, width).
        view_size: the side of the square view, at most ``resize``.
        resize: the short side after resizing, in pixels.
    """
    short = sizes.amin(dim=1, keepdim=True)
    resized = torch.where(sizes == short, resize, resize * sizes // short)
    offset = ((resized - view_size).double() / 2).round().long()  # half to even, as Python's round
    return Placement(torch.zeros_like(sizes), sizes, resized, offset, torch.zeros(len(sizes), dtype=torch.bool))


def _draw_lengths(
    sizes: Tensor, scale: tuple[float, float], ratio: tuple[float, float], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw each box's (height, width), the first try that fits into the image, and say, ``[B, 1]``, if one did."""
    shape = (len(sizes), NUM_TRIES)
    area = sizes.prod(dim=1, keepdim=True) * _between(*scale, shape, generator)
    aspect = _between(math.log(ratio[0]), math.log(ratio[1]), shape, generator).exp()
    tries = torch.stack([(area / aspect).sqrt(), (area * aspect).sqrt()], dim=-1).round().long()  # [B, tries, 2]
    fits = ((tries > 0) & (tries <= sizes[:, None])).all(dim=-1)
    first = tries[torch.arange(len(sizes)), fits.int().argmax(dim=1)]
    any_fits = fits.any(dim=1, keepdim=True)
    return torch.where(any_fits, first, _largest_box(sizes, ratio)), any_fits


def _largest_box(sizes: Tensor, ratio: tuple[float, float]) -> Tensor:
    """Give torchvision's fallback: the largest (height, width) in the image whose aspect ratio is allowed."""
    height, width = sizes.double().unbind(dim=1)
    box_height = torch.minimum(height, (width / ratio[0]).round())
    box_width = torch.minimum(width, (height * ratio[1]).round())
    return torch.stack([box_height, box_width], dim=1).long()


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def _between(low: float, high: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return low + (high - low) * _uniform(shape, generator)
