"""How near each pool row is to a set of reference rows, in one pass."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simcore.selection._features import Features, Float32, Float64, Rows
from simcore.selection._products import products_with
from simcore.selection._space import LENGTH, Space
from simcore.selection._threads import threaded

_PRODUCT_NUMBERS = 1 << 21


class Nearness(NamedTuple):
    """Of each pool row [num_pool]: mean cosine to its k nearest references, and which reference is nearest.

    A row that is invalid, or the only reference, has nearness -inf and nearest -1.
    """

    mean: Float64
    nearest: Rows
    best: Float32


def nearness(space: Space, pool: Features, references: Float32, k: int, own: Rows | None = None) -> Nearness:
    """Compare every pool row with ``references`` [num_references, dim] on the grid of ``space``.

    Args:
        space: where to compare.
        pool: the rows to judge.
        references: rows placed in ``space``.
        k: how many nearest to average; clamped to the references there are.
        own: where references are pool rows, their row numbers; a row is not its own neighbour.
    """
    k = min(k, len(references) - (own is not None))
    parts = pool.over_shards(_nearness, space, references, k, own)
    return parts[0] if len(parts) == 1 else Nearness(*map(np.concatenate, zip(*parts, strict=True)))


def _nearness(pool: Features, first_row: int, space: Space, references: Float32, k: int, own: Rows | None) -> Nearness:
    found = Nearness(
        np.full(pool.num_rows, -np.inf), np.full(pool.num_rows, -1), np.full(pool.num_rows, np.nan, np.float32)
    )
    if k < 1:
        return found
    size = max(16, min(pool.tile_rows, _PRODUCT_NUMBERS // len(references)))

    def compare(span: tuple[int, int]) -> None:
        rows, valid = space.read(pool, *span)
        products = multiply(rows)
        if own is not None:
            mine = own - first_row - span[0]
            here = np.flatnonzero((mine >= 0) & (mine < len(rows)))
            products[mine[here], here] = -np.inf
        part = slice(*span)
        found.mean[part] = np.where(valid, top_mean(products, k), -np.inf)
        found.nearest[part] = np.where(valid, products.argmax(axis=1), -1)
        found.best[part] = np.where(valid, products.max(axis=1) / LENGTH**2, np.nan)

    with products_with(references, pool.num_rows, by_tile_row=True) as multiply:
        for _ in threaded(compare, pool.spans(size)):
            pass
    return found


def top_mean(products: Float32, k: int) -> Float64:
    """Average the ``k`` largest of each row of grid products, as cosines; exact up to one rounding."""
    num = products.shape[1]
    largest = products if k == num else np.partition(products, num - k, axis=1)[:, num - k :]
    means: Float64 = largest.sum(axis=1, dtype=np.float64) / (k * float(LENGTH) ** 2)
    return means


def held_out(references: Float32, k: int) -> Float64:
    """Judge each reference by the others, as :func:`nearness` judges pool rows; -inf where there is but one."""
    k = min(k, len(references) - 1)
    if k < 1:
        return np.full(len(references), -np.inf)
    means = np.empty(len(references))
    for start in range(0, len(references), 1024):
        products = references[start : start + 1024] @ references.T
        places = np.arange(len(products))
        products[places, start + places] = -np.inf
        means[start : start + 1024] = top_mean(products, k)
    return means
