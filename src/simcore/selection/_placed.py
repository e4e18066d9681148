"""A pool seen through a space: its rows whitened and on the grid, made tile by tile as they are read."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from simcore.artifacts import Embeddings
from simcore.selection._features import Features, Mask, Rows, Tile
from simcore.selection._space import LENGTH, Space, longest_place
from simcore.selection._threads import threaded

MAX_KEPT = 1 << 31  # numbers kept once placed, 2 bytes each; placing a row costs dim^2 operations


class PlacedFeatures(Features):
    """Features whose rows are their places in a :class:`Space`.

    A valid row without a direction there (one at the pool's mean) stays valid: its similarities are 0. Places are
    kept in memory where they fit in 4 GB, else worked out whenever they are read.
    """

    def __init__(self, embeddings: Embeddings, space: Space, *, keep: bool = True) -> None:
        super().__init__(embeddings)
        self._space = space
        self._kept: npt.NDArray[np.int16] | None = None
        if keep and self.num_rows * self.dim <= MAX_KEPT:
            self._kept, self._is_valid = (
                np.empty((self.num_rows, self.dim), np.int16),
                np.empty(self.num_rows, np.bool_),
            )
            for _ in threaded(self._keep, self.spans()):
                pass

    def _keep(self, span: tuple[int, int]) -> None:
        assert self._kept is not None
        rows, valid = self._space.read(self, *span)
        self._kept[slice(*span)], self._is_valid[slice(*span)] = rows, valid

    def tile(self, start: int, stop: int) -> Tile:
        """Read rows [start, stop) and place them."""
        if self._kept is not None:
            return self._as_tile(start, self._kept[start:stop], self._is_valid[start:stop])
        return self._as_tile(start, *self._space.read(self, start, stop))

    def some(self, indices: Rows) -> Tile:
        """Read rows from anywhere and place them."""
        start = int(indices[0])
        if self._kept is not None:
            return self._as_tile(start, self._kept.take(indices, axis=0), self._is_valid[indices])
        units = self.unit64(indices)
        return self._as_tile(start, self._space.place(units), np.asarray(units.any(axis=1)))

    def _as_tile(self, start: int, rows: npt.NDArray[Any], valid: Mask) -> Tile:
        placed = rows.astype(np.float32) * valid[:, None]
        return Tile(start, placed, np.full(len(rows), LENGTH, np.float32), valid, longest_place(self.dim))
