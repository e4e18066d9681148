"""Directions on an integer grid, where every sum of products is exact in fp32.

A unit vector is scaled to length 4,032 and rounded to integers. By Cauchy-Schwarz no sum of products of two such
vectors, whole or partial, exceeds 2^24, and up to there fp32 holds every integer. So a matrix product gives the
same numbers in any order of addition: on any tile, thread, device or node. A cosine is off by some 1e-4 at most,
which is far less than scores that average many cosines can tell.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from simcore.selection._features import Features, Float32, Float64, Mask, Rows
from simcore.selection._threads import one_thread_each, threaded

LENGTH = 4032  # leaves room below 2^12 for the rounding of up to 16,384 coordinates
_FINE = 2.0**26  # the same idea in fp64, for the whitening map: products below 2^52
_COVARIANCE_GRID = 2.0**16
_COVARIANCE_ROWS = 1 << 18  # more rows than this do not change a covariance that matters


def longest_place(dim: int) -> float:
    """Bound the length of a place in units of LENGTH: rounding moves each of ``dim`` coordinates by a half at most."""
    return 1.0 + 0.5 * math.sqrt(dim) / LENGTH


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Space:
    """Where rows are compared: as they are, or centred and whitened by the pool's covariance.

    ``mean`` [dim] and ``whitening`` [dim, dim] are None for the plain space. A row that has no direction there is
    zeros.
    """

    mean: Float64 | None = None
    whitening: Float64 | None = None

    def place(self, units: Float64) -> Float32:
        """Put unit rows [n, dim] on the grid."""
        rows = units
        if self.whitening is not None and self.mean is not None:
            rows = np.rint(units * _FINE) @ self.whitening.T - self.mean
            norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
            rows = rows / np.where(norms > 0, norms, 1.0)[:, None]
        gridded: Float32 = np.rint(rows * LENGTH).astype(np.float32)
        return gridded

    def read(self, features: Features, start: int, stop: int) -> tuple[Float32, Mask]:
        """Put rows [start, stop) on the grid; tells which are valid, the others are zeros."""
        units, valid = features.units_between(start, stop)
        return np.where(valid[:, None], self.place(units), 0.0), valid

    def take(self, features: Features, indices: Rows) -> Float32:
        """Put some valid rows on the grid [len(indices), dim]."""
        placed = np.empty((len(indices), features.dim), np.float32)
        for start in range(0, len(indices), 1024):
            placed[start : start + 1024] = self.place(features.unit64(indices[start : start + 1024]))
        return placed


def whitened_space(pool: Features, ridge: float = 1e-3) -> Space:
    """Whiten by the pool: subtract its mean direction and divide by its spread along each principal axis.

    ``ridge`` times the largest eigenvalue is added to the covariance of the unit rows, so that axes along which the
    pool hardly varies are not blown up. Of a pool above 262,144 rows, evenly spaced ones are used.
    """
    count, total, products = _moments(pool)
    mean = total / (count * _COVARIANCE_GRID)
    covariance = products / (count * _COVARIANCE_GRID**2) - np.outer(mean, mean)
    with one_thread_each():
        spread, axes = np.linalg.eigh(covariance)
    spread = np.maximum(spread, 0.0) + ridge * max(float(spread[-1]), 1e-12)
    # Largest gain 1, so that no row of the map is longer than a unit vector.
    whitening = np.rint((axes * np.sqrt(spread[0] / spread)).T * _FINE)
    placed_mean = np.einsum("ij,j->i", whitening, np.rint(mean * _FINE))
    return Space(mean=placed_mean, whitening=whitening)


def _moments(pool: Features) -> tuple[int, Float64, Float64]:
    """Sum the pool's rows and their outer products in integers, which no order of addition changes."""
    counts, totals, products = zip(*pool.over_shards(_sums, -(-pool.num_rows // _COVARIANCE_ROWS)), strict=True)
    return sum(counts), sum(totals).astype(np.float64), sum(products).astype(np.float64)


def _sums(pool: Features, first_row: int, step: int) -> tuple[int, Rows, Rows]:
    """Sum every ``step``-th row, counted from the first of all shards, in a grid."""
    size = max(1, min(pool.tile_rows, 4096))
    starts = range(-first_row % step, pool.num_rows, size * step)
    spans = [(start, min(start + size * step, pool.num_rows)) for start in starts]

    def sums(span: tuple[int, int]) -> tuple[int, Rows, Rows]:
        if step == 1:
            units, valid = pool.units_between(*span)
            rows = units[valid]
        else:
            rows = pool.unit64(np.arange(*span, step))
            rows = rows[rows.any(axis=1)]
        whole = np.rint(rows * _COVARIANCE_GRID)
        return len(whole), whole.sum(axis=0).astype(np.int64), (whole.T @ whole).astype(np.int64)

    count, total, products = 0, np.zeros(pool.dim, np.int64), np.zeros((pool.dim, pool.dim), np.int64)
    with one_thread_each():
        for num, row_sum, outer in threaded(sums, spans):
            count, total, products = count + num, total + row_sum, products + outer
    return count, total, products
