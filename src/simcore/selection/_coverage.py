"""Coverage: facility location on a neighbour list of each target row, by greedy gains kept exact as they change."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from simcore.selection._features import Rows
from simcore.selection._queues import Ranked

UNIT = 1 << 29  # a weight of 1; gains are sums of integers, so no order of addition changes them
_BLOCK = 1024
_ENTRIES_AT_ONCE = 1 << 20
Ints = npt.NDArray[np.int32]


class Coverage:
    """Greedy maximisation of the sum over x of the ``cap`` largest weights w(x, u) of the rows u chosen.

    Each x has a list of rows by weight descending. What a row would add is the sum, over the x that list it, of how
    far its weight lies above the x's cut: the cap-th largest weight chosen so far, 0 while there are fewer. A pick
    raises the cuts of x that list it, and only the entries between an old and a new cut have gains to change.
    """

    def __init__(self, lists: Ranked, num_pool: int, offset: float = 0.0) -> None:
        """Take the lists [num_x, depth], padded with -1; weights are max(0, similarity + offset), at most 2."""
        self._num_x, self._depth = lists.indices.shape
        # One more column: the place beyond a list, whose weight of 0 is the cut of an x with too few picks.
        self._weights = np.zeros((self._num_x, self._depth + 1), np.int32)
        self._rows = np.empty((self._num_x, self._depth), np.int32)
        for x in range(self._num_x):
            similarity = lists.values[x].astype(np.float64) + offset
            self._weights[x, :-1] = np.where(lists.indices[x] < 0, 0, np.rint(np.maximum(similarity, 0.0) * UNIT))
            self._rows[x] = np.where(lists.indices[x] < 0, num_pool, lists.indices[x])
        flat = self._rows.reshape(-1)
        self._entries = np.argsort(flat, kind="stable")  # the lists turned round: where each row stands in them
        self._first_entry = np.searchsorted(flat[self._entries], np.arange(num_pool + 2, dtype=np.int32))
        self._taken = np.zeros(num_pool + 1, np.bool_)
        self._taken[num_pool] = True
        self._gains = np.zeros(-(-(num_pool + 1) // _BLOCK) * _BLOCK, np.int64)
        self.cap = 0

    def set_cap(self, cap: int) -> None:
        """Let every x want its ``cap`` nearest rows, and work out all gains anew."""
        self.cap = cap
        self._best_places = np.full((self._num_x, cap), self._depth)
        self._open = np.zeros(self._num_x, np.int64)  # entries of each x above its cut
        self._gains[:] = 0
        step = max(1, _ENTRIES_AT_ONCE // self._depth)
        for first in range(0, self._num_x, step):
            self._restart(np.arange(first, min(first + step, self._num_x)))
        self._gains[: len(self._taken)][self._taken] = 0
        self._block_bounds = self._gains.reshape(-1, _BLOCK).max(axis=1)

    def _restart(self, x: Rows) -> None:
        """Find the best places chosen so far of some x, and add up what their open entries would gain."""
        chosen = self._taken[self._rows[x]] & (self._weights[x, :-1] > 0)
        number = np.cumsum(chosen, axis=1)
        which, place = np.nonzero(chosen & (number <= self.cap))
        self._best_places[x[which], number[which, place] - 1] = place
        self._open[x] = self._count_above(x)
        which, place = _spans(self._open[x])
        gains = self._weights[x[which], place] - self._cuts(x)[which]
        np.add.at(self._gains, self._rows[x[which], place], gains)

    def _cuts(self, x: Rows) -> Ints:
        cuts: Ints = self._weights[x, self._best_places[x, -1]]
        return cuts

    def _count_above(self, x: Rows) -> Rows:
        """Count the entries of each x whose weight lies above its cut, searching all lists at once by halving."""
        cuts = self._cuts(x)
        low, high = np.zeros(len(x), np.int64), self._best_places[x, -1]
        while (searching := low < high).any():
            middle = (low + high) // 2
            above = self._weights[x, middle] > cuts
            low = np.where(searching & above, middle + 1, low)
            high = np.where(searching & ~above, middle, high)
        return low

    def best(self) -> tuple[int, int]:
        """Give the row that adds most, the lowest of equal ones, and what it adds.

        Lazy by blocks of rows: gains only fall, so a block's old maximum bounds its new one.
        """
        while True:
            block = int(self._block_bounds.argmax())
            gains = self._gains[block * _BLOCK : (block + 1) * _BLOCK]
            place = int(gains.argmax())
            if gains[place] == self._block_bounds[block]:
                return block * _BLOCK + place, int(gains[place])
            self._block_bounds[block] = gains[place]

    def take(self, row: int) -> None:
        """Choose a row: raise the cuts of the x that want it, and lower the gains of what they list."""
        x, place = self._standing(row)
        wanting = self._weights[x, place] > self._cuts(x)
        x, place = x[wanting], place[wanting]
        old_cuts, old_open = self._cuts(x), self._open[x]
        best = self._best_places[x]
        best[:, -1] = place
        best.sort(axis=1)
        self._best_places[x] = best
        self._open[x] = self._count_above(x)
        which, place = _spans(old_open)
        lost = np.minimum(self._weights[x[which], place], self._cuts(x)[which]) - old_cuts[which]
        np.subtract.at(self._gains, self._rows[x[which], place], lost)
        self._taken[row] = True
        self._gains[row] = 0

    def _standing(self, row: int) -> tuple[Rows, Rows]:
        """Tell which x list a row, and at which place."""
        return np.divmod(self._entries[self._first_entry[row] : self._first_entry[row + 1]], self._depth)

    def nearest(self, row: int) -> int:
        """Give the x with the largest weight to a listed row."""
        x, place = self._standing(row)
        return int(x[self._weights[x, place].argmax()])

    def value(self) -> float:
        """Give the objective of the rows chosen: the mean over x of the sum of its ``cap`` largest weights."""
        wanted = self._weights[np.arange(self._num_x)[:, None], self._best_places]
        mean: float = int(wanted.sum(dtype=np.int64)) / UNIT / self._num_x
        return mean


def _spans(lengths: Rows) -> tuple[Rows, Rows]:
    """List the places 0, 1, ... of each of several lists as (which list, place)."""
    which = np.repeat(np.arange(len(lengths)), lengths)
    return which, np.arange(len(which)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
