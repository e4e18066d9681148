"""Carries out what was drawn for the colours of a batch, in as few passes over the pixels as can be."""

from __future__ import annotations

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
        blends = torch.stack(_colour.blend_shares(self._colours.order, factors))
        self._shifts, *self._blends = torch.cat([factors[None], blends]).to(device, non_blocking=True)

    def pieces(self, limit: int) -> Iterator[slice]:
        """Cut the batch into runs of images, at most ``limit`` long, that :meth:`apply_` can take at once."""
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
            piece: which of the ordered images they are; one of :meth:`pieces`.
        """
        self._jitter_(images, piece)
        num_gray = sum(self._grayscale[piece])
        if num_gray:
            images[-num_gray:] = _colour.gray(images[-num_gray:])
        drawn = self._colours
        sigma = drawn.sigma[piece][drawn.blurred[piece]].to(images.device, non_blocking=True)
        kernel_size = 2 * (images.shape[-1] // 20) + 1  # a tenth of the view, made odd
        _change_some_(images, drawn.blurred[piece], lambda some: _colour.blur(some, sigma, kernel_size))
        _change_some_(images, drawn.solarized[piece], lambda some: _colour.solarize(some, drawn.solarize_threshold))

    def _jitter_(self, images: Tensor, piece: slice) -> None:
        hue_turn = self._hue_turns[piece.start]
        if hue_turn == NEVER:
            return
        for turn in range(NUM_OPERATIONS):
            if turn == hue_turn:
                _colour.shift_hue_(images, self._shifts[piece, turn])
            else:
                _colour.blend_(images, *(shares[piece, turn] for shares in self._blends))


def _change_some_(images: Tensor, chosen: Tensor, change: Callable[[Tensor], Tensor]) -> None:
    if chosen.any():
        rows = chosen.nonzero().squeeze(1).to(images.device, non_blocking=True)
        images.index_copy_(0, rows, change(images.index_select(0, rows)))
