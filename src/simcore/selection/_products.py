"""Products of many tiles with one fixed matrix: on the processor, or on a GPU where there is one and it pays."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import numpy as np

from simcore.selection._features import Float32
from simcore.selection._threads import one_thread_each

Product = Callable[[Float32], Float32]

_GPU_PAYS_FROM = 1e11  # multiplications; below, importing torch and moving tiles takes longer than it saves


@contextlib.contextmanager
def products_with(
    fixed: Float32, num_rows: int, *, by_tile_row: bool = False, device: str | None = None
) -> Iterator[Product]:
    """Give a function from a tile [n, dim] to its products with the rows of a matrix; threads may share it.

    Args:
        fixed: the matrix that stays [k, dim].
        num_rows: how many rows the tiles will have in all.
        by_tile_row: lay products out as [n, k] rather than [k, n].
        device: a torch device; None takes a GPU for large work, else numpy on one core a thread.

    Sums are fp32 on any device, in an order that is not: see the callers for how they settle what depends on it.
    """
    place = device or _gpu_for(fixed.shape[0] * fixed.shape[1] * float(num_rows))
    if place is None:
        with one_thread_each():
            yield (lambda tile: tile @ fixed.T) if by_tile_row else (lambda tile: fixed @ tile.T)
        return
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")  # TF32 would be outside the bound on an fp32 sum
    try:
        there = torch.from_numpy(np.ascontiguousarray(fixed)).to(place)

        def multiply(tile: Float32) -> Float32:
            moved = torch.from_numpy(tile).to(place)
            product = moved @ there.T if by_tile_row else there @ moved.T
            host = torch.empty(product.shape, pin_memory=product.is_cuda)  # the way there is several times as fast
            found: Float32 = host.copy_(product).numpy()
            return found

        yield multiply
    finally:
        torch.set_float32_matmul_precision(before)


def _gpu_for(multiplications: float) -> str | None:
    if multiplications < _GPU_PAYS_FROM:
        return None
    import torch

    return "cuda" if torch.cuda.is_available() else None
