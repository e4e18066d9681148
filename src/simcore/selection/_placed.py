"""A pool seen through a space: its rows whitened and on the grid, made tile by tile as they are read."""

from __future__ import annotations

import numpy as np

from simcore.artifacts import Embeddings
from simcore.selection._features import Features, Float64, Mask, Rows, Tile
from simcore.selection._space import LENGTH, Space


class PlacedFeatures(Features):
    """Features whose rows are their places in a :class:`Space`.

    A valid row without a direction there (one at the pool's mean) stays valid: its similarities are 0.
    """

    def __init__(self, embeddings: Embeddings, space: Space) -> None:
        super().__init__(embeddings)
        self._space = space

    def tile(self, start: int, stop: int) -> Tile:
        """Read rows [start, stop) and place them."""
        return self._placed(start, *self.units_between(start, stop))

    def some(self, indices: Rows) -> Tile:
        """Read rows from anywhere and place them."""
        units = self.unit64(indices)
        return self._placed(int(indices[0]), units, np.asarray(units.any(axis=1)))

    def _placed(self, start: int, units: Float64, valid: Mask) -> Tile:
        rows = np.where(valid[:, None], self._space.place(units), np.float32(0.0))
        return Tile(start, rows, np.full(len(rows), LENGTH, np.float32), valid)
