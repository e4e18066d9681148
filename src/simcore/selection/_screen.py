"""A screen: bounds on similarities that cost a fraction of them, so that most rows of a pool need no more.

Centroids of a narrow target lie near a few directions. Along these a row's share of each similarity is a short sum;
what the rest adds is at most the length of the centroid's rest times that of the row's (Cauchy-Schwarz). A row whose
bound is below what a centroid's candidates have reached is none of them. Bounds hold whatever the rounding, so a screen
changes how long a pass takes and never what it finds.
"""

from __future__ import annotations

import numpy as np

from simcore.selection._features import Float32, Mask, Tile

_NUMS_AXES = (8, 16, 32, 64)
_MAX_CENTROIDS = 512  # looked at for directions
_SKINNY = 2.0  # how much longer a multiplication takes in a narrow product
_PAYS_BELOW = 0.8  # of the cost of all similarities


class Screen:
    """Upper bounds on the cosine of unit centroids to rows, from orthonormal ``axes`` [dim, num_axes]."""

    def __init__(self, centroids: Float32, axes: Float32) -> None:
        dim, num_axes = axes.shape
        along = centroids.astype(np.float64) @ axes
        rest = np.linalg.norm(centroids - along @ axes.T, axis=1)
        self._axes = axes
        self._parts = np.concatenate([along, rest[:, None]], axis=1).astype(np.float32)
        # Bounds on fp32 sums of dim products of a unit vector with each axis, and of squares.
        rounding = (dim + num_axes + 16) * 2.0**-23
        self._slack, self._slack_of_squares = np.float32((num_axes**0.5 + 4) * rounding), np.float32(2 * rounding)

    def may_reach(self, tile: Tile, cuts: Float32) -> Mask:
        """Say which rows [n] may have a cosine at or above ``cuts`` [num_centroids] with one of the centroids."""
        units = tile.rows @ self._axes
        units /= tile.norms[:, None]
        beside = np.maximum(tile.longest**2 - np.einsum("ij,ij->i", units, units), 0.0) + self._slack_of_squares
        bounds = self._parts @ np.concatenate([units, np.sqrt(beside)[:, None]], axis=1).T
        near: Mask = (bounds >= (cuts - self._slack)[:, None]).any(axis=0)
        return near


def screen_that_pays(centroids: Float32, sample: Tile, cuts: Float32) -> Screen | None:
    """Try screens of several sizes on a sample of the pool, and give the best of those that save time."""
    num_centroids, dim = centroids.shape
    whole = num_centroids * dim
    best, least = None, _PAYS_BELOW * whole
    directions = _directions(centroids)
    for num_axes in _NUMS_AXES:
        narrow = _SKINNY * num_axes * (dim + num_centroids)
        if narrow >= least or num_axes > directions.shape[1]:
            break
        screen = Screen(centroids, np.ascontiguousarray(directions[:, :num_axes]))
        cost = narrow + float(screen.may_reach(sample, cuts).mean()) * whole
        if cost < least:
            best, least = screen, cost
    return best


def _directions(centroids: Float32) -> Float32:
    """Give orthonormal directions [dim, n] that hold most of the centroids, the strongest first."""
    some = centroids[:: -(-len(centroids) // _MAX_CENTROIDS)].astype(np.float64)
    directions: Float32 = np.linalg.svd(some, full_matrices=False)[2].T.astype(np.float32)
    return directions
