"""Carries out what was drawn for the colours of a batch, in as few passes over the pixels as can be."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from simcore.views import _colour
from simcore.views._photometric import NEVER, NUM_OPERATIONS, Colours


class Recolouring:
    """The colour operations of a batch, its images in an order in which neighbours need the same.

    torchvision draws an order of the four operations for each image. Three of them are blends, so images that are at
    different blends share a pass; only the hue needs a pass of its own. Images are therefore sorted by the turn at
    which their hue is shifted (0 to 3, or never), and within that by whether they lose their colours in the end.

    Attributes:
        order: int64 ``[B]`` on the CPU, the images in that order.
    """

    def __init__(self, colours: Colours, device: torch.device) -> None:
        self.order = (2 * colours.hue_turn + colours.grayscale).argsort(stable=True)
        self._colours = colours[self.order]
        self._hue_turns = self._colours.hue_turn.tolist()
        self._grayscale = self._colours.grayscale.tolist()
        factors = self._colours.factors.gather(1, self._colours.order)  # by turn
        shares = torch.cat([factors[None], self._blend_shares(factors)])
        gray = self._colours.grayscale.float()
        to_gray = torch.stack([torch.zeros_like(gray), 1 - gray, gray, torch.zeros_like(gray)])
        shares = torch.cat([shares, to_gray[..., None]], dim=2)  # a fifth turn
        self._shifts, *self._blends = shares.to(device, non_blocking=True)

    def _blend_shares(self, factors: Tensor) -> Tensor:
        """Give the shares of every turn, float32 ``[3, B, 4]``; they leave an image as it is when it has no blend."""
        order, jittered = self._colours.order, self._colours.jittered[:, None]
        shares = torch.stack(_colour.blend_shares(order, factors))
        unchanged = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
        return torch.where((order == _colour.HUE) | ~jittered, unchanged, shares)

    def pieces(self, limit: int) -> Iterator[slice]:
        """Cut the batch into runs of images, at most ``limit`` long, whose hues turn together: the least arithmetic."""
        start, num = 0, len(self._hue_turns)
        while start < num:
            stop = start + 1
            while stop < min(start + limit, num) and self._hue_turns[stop] == self._hue_turns[start]:
                stop += 1
            yield slice(start, stop)
            start = stop

    def apply_(self, images: Tensor, piece: slice) -> None:
        """Change the images of one piece in place.

        Args:
            images: float32 ``[num, 3, S, S]`` in [0, 1].
            piece: any run of the ordered images; one of :meth:`pieces` takes the least arithmetic, a longer one fewer
                operations.
        """
        self._jitter_(images, piece)
        self._to_gray_(images, piece)
        drawn = self._colours
        sigma = drawn.sigma[piece][drawn.blurred[piece]].to(images.device, non_blocking=True)
        kernel_size = 2 * (images.shape[-1] // 20) + 1  # a tenth of the view, made odd
        _change_some_(images, drawn.blurred[piece], lambda some: _colour.blur(some, sigma, kernel_size))
        _change_some_(images, drawn.solarized[piece], lambda some: _colour.solarize(some, drawn.solarize_threshold))

    def _jitter_(self, images: Tensor, piece: slice) -> None:
        turns = self._hue_turns[piece]  # sorted
        if turns[0] == NEVER:
            return
        for turn in range(NUM_OPERATIONS):
            first, last = bisect.bisect_left(turns, turn), bisect.bisect_right(turns, turn)
            if last - first < len(turns):
                self._blend_(images, piece, turn)
            if last > first:
                _colour.shift_hue_(images[first:last], self._shifts[piece, turn][first:last])

    def _to_gray_(self, images: Tensor, piece: slice) -> None:
        gray = self._grayscale[piece]
        num_gray = sum(gray)
        if num_gray and all(gray[-num_gray:]):
            images[-num_gray:] = _colour.gray(images[-num_gray:])
        elif num_gray:
            self._blend_(images, piece, NUM_OPERATIONS)

    def _blend_(self, images: Tensor, piece: slice, turn: int) -> None:
        _colour.blend_(images, *(shares[piece, turn] for shares in self._blends))


def _change_some_(images: Tensor, chosen: Tensor, change: Callable[[Tensor], Tensor]) -> None:
    if chosen.any():
        rows = chosen.nonzero().squeeze(1).to(images.device, non_blocking=True)
        images.index_copy_(0, rows, change(images.index_select(0, rows)))
