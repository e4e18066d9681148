"""From a batch, placements and colour draws to finished views: the one path that every view takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from simcore.views._canvas import ImageBatch
from simcore.views._photometric import Colours
from simcore.views._placement import Placement
from simcore.views._recolour import Recolouring
from simcore.views._resample import Filter, Resampling

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

CACHED_VALUES = 2**18  # float32 values of a piece of views that stays in a core's cache through all its operations
CANVAS_VALUES = 2**27  # float32 values of canvas that an accelerator holds at once


@torch.no_grad()
def render(
    batch: ImageBatch,
    placement: Placement,
    size: int,
    *,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    filter: Filter,
    colours: Colours | None = None,
) -> Tensor:
    """Make normalised views.

    Args:
        batch: B images.
        placement: which part of its image each of N views shows; view n is of image n modulo B.
        size: S, the side of a view in pixels.
        mean: subtracted from each channel of the view, whose values are in [0, 1].
        std: what each channel is then divided by.
        filter: how pixels are weighted.
        colours: what befalls each view's colours; None leaves them.

    Returns:
        float32 ``[N, 3, S, S]`` on the batch's device.
    """
    device = batch.device
    recolouring = None if colours is None else Recolouring(colours, device)
    order = torch.arange(len(placement)) if recolouring is None else recolouring.order
    resampling = Resampling(placement[order], size, filter, device)
    rows = order.to(device, non_blocking=True)
    sources = rows if len(placement) == len(batch) else rows % len(batch)
    center, spread = torch.tensor([mean, std])[..., None, None].to(device, non_blocking=True)

    canvas = batch.pixels.permute(0, 2, 3, 1)  # [B, H, W, 3], as it lies in memory
    views = torch.empty(len(placement), 3, size, size, device=device)
    limit = _short(size) if batch.short_passes else max(1, CANVAS_VALUES // canvas[0].numel())
    cut = recolouring.pieces if recolouring is not None and batch.short_passes else _runs_of(len(placement))
    with torch.autocast(device.type, enabled=False):
        for piece in cut(limit):
            part = resampling.apply(canvas.index_select(0, sources[piece]), piece)
            if recolouring is not None:
                recolouring.apply_(part, piece)
            views.index_copy_(0, rows[piece], part.sub_(center).div_(spread))
    return views


def _short(size: int) -> int:
    """Give how many views the caches of the cores hold."""
    return max(1, CACHED_VALUES * torch.get_num_threads() // (3 * size**2))


def _runs_of(num: int) -> Callable[[int], Iterator[slice]]:
    return lambda limit: (slice(start, min(start + limit, num)) for start in range(0, num, limit))
