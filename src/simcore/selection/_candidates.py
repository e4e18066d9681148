"""Candidates: the entries of each row of a matrix that may be among its largest, kept as the matrix comes in tiles."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from simcore.selection._features import Float32, Mask, Rows
from simcore.selection._threads import threaded

LOWEST = np.finfo(np.float32).min  # a floor that nothing lies below: no row was let go


class Found(NamedTuple):
    """Entries of a tile [n]: their ``rows``, ascending, ``columns`` and ``values``."""

    rows: npt.NDArray[np.int32]
    columns: Rows
    values: Float32


class RunningTop:
    """The largest ``depth`` entries, at least, of each row of a matrix that comes in column tiles."""

    def __init__(self, depth: int, cuts: Float32) -> None:
        """Hold entries at or above ``cuts`` [num_rows], which rise as better ones come."""
        self.cuts, self._depth = cuts.copy(), depth
        self._parts: list[Found] = []
        self._num_held, self._room = 0, 2 * depth * len(cuts)

    def above(self, tile: Float32, columns: Rows) -> Found:
        """Find a tile's entries that may belong; ``columns`` [tile.shape[1]] numbers those of the tile."""
        flat = np.flatnonzero(tile >= self.cuts[:, None])
        starts = np.arange(len(tile)) * tile.shape[1]
        counts = np.diff(np.searchsorted(flat, starts), append=len(flat))
        rows = np.repeat(np.arange(len(tile), dtype=np.int32), counts)
        return Found(rows, columns[flat - np.repeat(starts, counts)], tile.reshape(-1)[flat])

    def add(self, found: Found) -> None:
        """Hold what :meth:`above` found."""
        self._parts.append(found)
        self._num_held += len(found.rows)
        if self._num_held > self._room:
            self._shrink()

    def _shrink(self) -> None:
        """Keep the largest ``depth`` of each row and raise its cut to the least of them."""
        kept = []
        for row, (columns, values) in enumerate(self._by_row()):
            if len(values) > self._depth:
                best = np.argpartition(-values, self._depth - 1)[: self._depth]
                columns, values = columns[best], values[best]
                self.cuts[row] = max(self.cuts[row], values.min())
            kept.append(Found(np.full(len(values), row, np.int32), columns, values))
        self._parts = [Found(*map(np.concatenate, zip(*kept, strict=True)))]
        self._num_held = len(self._parts[0].rows)

    def _by_row(self) -> list[tuple[Rows, Float32]]:
        """Give the columns and values that each row holds."""
        rows, columns, values = map(np.concatenate, zip(*self._parts, strict=True))
        num_rows = len(self.cuts)
        # Numpy sorts short integers in linear time.
        order = np.argsort(rows.astype(np.int16 if num_rows < 1 << 15 else np.int64), kind="stable")
        starts = np.cumsum(np.bincount(rows, minlength=num_rows))[:-1]
        return list(zip(np.split(columns[order], starts), np.split(values[order], starts), strict=True))

    def candidates(self) -> list[Candidates]:
        """Give what each row holds; its last cut bounds everything that was let go."""
        held = list(zip(self._by_row(), self.cuts.tolist(), strict=True))
        return list(threaded(lambda row: Candidates(*row[0], row[1]), held))


class Candidates:
    """Rows of one cluster by fast similarity descending; every other row lies at ``floor`` or below.

    ``settled`` is the similarity that counts, NaN until it has been looked at.
    """

    def __init__(self, indices: Rows, values: Float32, floor: float) -> None:
        order = np.argsort(-values)
        self.indices, self.values, self.floor = indices[order], values[order], floor
        self.settled = np.full(len(order), np.nan, np.float32)
        self._passed = 0  # all before this place are taken

    def first_free(self, count: int, taken: Mask | None) -> tuple[Rows, int]:
        """Give the places of the first ``count`` rows not taken, fewer where there are no more, and where to go on."""
        if taken is None:
            count = min(count, len(self.indices))
            return np.arange(count), count
        window = 2 * count
        while True:
            stop = min(self._passed + window, len(self.indices))
            free = np.flatnonzero(~taken[self.indices[self._passed : stop]]) + self._passed
            if len(free) >= count or stop == len(self.indices):
                break
            window *= 4
        self._passed = int(free[0]) if len(free) else stop
        return (free[:count], int(free[count - 1]) + 1) if len(free) >= count else (free, stop)

    def in_order(self, best: Rows, rest: int, error: float) -> tuple[Rows, Float32]:
        """Order settled places ``best``, all that are free before ``rest``, as far as no row behind can be among them.

        A settled similarity differs from a fast one by less than ``error``. Gives rows and similarities.
        """
        best = best[np.lexsort((self.indices[best], -self.settled[best]))]
        below = self.values[rest] if rest < len(self.values) else self.floor
        if below > LOWEST:
            best = best[self.settled[best] > below + error]
        return self.indices[best], self.settled[best]
