"""Queues: each centroid's pool rows from the most similar down, held only as deep as they are read.

A queue is a prefix of the full order (similarity descending, then row number ascending). When it runs dry the
rows not taken yet are ranked again, so the order that the peel sees is exactly the full one.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from simcore.selection._threads import threaded

Rows = npt.NDArray[np.int64]
Turns = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]

_LOOK_AHEAD = 16
_AHEAD = np.arange(_LOOK_AHEAD)
_WINDOW = 1 << 18  # free queue entries that many rounds at once are played on
_SAMPLE = 8_192  # entries read to guess where a row's top begins


class Ranked(NamedTuple):
    """The best rows of some centroids, best first: ``indices`` and ``values`` [num_centroids, depth].

    A centroid with fewer than ``depth`` rows left is padded with index -1.
    """

    indices: Rows
    values: npt.NDArray[np.floating[Any]]


class Scores(Protocol):
    """Similarities [num_clusters, num_pool] that may never exist as a matrix.

    ``top_up`` is the share of a queue left below which it is ranked again when another one runs dry.
    """

    top_up: float

    @property
    def shape(self) -> tuple[int, int]:
        """(num_clusters, num_pool)."""

    def best(self, clusters: Rows, depth: int, taken: Mask | None) -> Ranked:
        """Rank for each of ``clusters`` up to ``depth`` of its most similar rows among those not ``taken`` [num_pool].

        One at least, where there is one.
        """

    def first_depth(self, budget: int) -> int:
        """Say how deep to rank at first when ``budget`` rows are wanted in all."""


class PoolScores(Scores, Protocol):
    """Scores of a pool that has to be read."""

    def prepare(self) -> None:
        """Make the first pass over the pool now, which also tells which of its rows are valid."""


class MatrixScores:
    """Scores given as a finite matrix."""

    top_up = 0.2  # a ranking reads a whole row of the matrix, but long runs of rounds are worth some

    def __init__(self, similarity: npt.NDArray[np.floating[Any]]) -> None:
        self._matrix = similarity

    @property
    def shape(self) -> tuple[int, int]:
        """(num_clusters, num_pool)."""
        return self._matrix.shape[0], self._matrix.shape[1]

    def best(self, clusters: Rows, depth: int, taken: Mask | None) -> Ranked:
        """Rank for each of ``clusters`` its ``depth`` most similar rows among those not ``taken``."""
        free = self.shape[1] if taken is None else int(self.shape[1] - np.count_nonzero(taken))
        depth = min(depth, free)
        shape = (len(clusters), depth)
        ranked = Ranked(np.empty(shape, np.int64), np.empty(shape, self._matrix.dtype))

        def rank(place: int) -> None:
            row = self._matrix[clusters[place]]
            ranked.indices[place] = order = top(row, depth, taken)
            ranked.values[place] = row[order]

        for _ in threaded(rank, range(len(clusters))):
            pass
        return ranked

    def first_depth(self, budget: int) -> int:
        """Rank four times what is read if no two centroids ever want the same row."""
        return min(self.shape[1], 4 * -(-budget // self.shape[0]) + 64)


def top(row: npt.NDArray[np.floating[Any]], depth: int, taken: Mask | None = None) -> Rows:
    """Give the positions of the ``depth`` largest entries not ``taken``: by value descending, then position.

    Exact at any input. A sample of the row guesses a cut so that a full partition is seldom needed.
    """
    if depth == 0:
        return np.zeros(0, np.int64)
    for cut in _guesses(row, depth):
        chosen = np.flatnonzero(row >= cut)
        if taken is not None:
            chosen = chosen[~taken[chosen]]
        if len(chosen) >= depth:
            break
    else:
        chosen = np.arange(len(row)) if taken is None else np.flatnonzero(~taken)
    values = row[chosen]
    if len(chosen) > 4 * depth:
        cut = np.partition(values, len(values) - depth)[len(values) - depth]
        chosen, values = chosen[values >= cut], values[values >= cut]
    return _best_first(chosen, values)[:depth]


def _best_first(positions: Rows, values: npt.NDArray[np.floating[Any]]) -> Rows:
    """Order positions, which ascend, by value descending and then position.

    A value that fits into 32 bits is put before its position into one integer: those are sorted in a third of the
    time of an ``argsort``, and equal values come out right by themselves.
    """
    if values.dtype.itemsize > 4 or positions.max(initial=0) >> 32:
        return positions[np.argsort(-values, kind="stable")]
    bits = (values.astype(np.float32) + np.float32(0.0)).view(np.uint32)  # the sum makes -0 equal to 0
    falling = np.where(bits >> 31, bits, bits ^ 0x7FFFFFFF)  # below the sign, the larger integer is the larger size
    keys = falling.astype(np.uint64) << 32 | positions.astype(np.uint64)
    keys.sort()
    return (keys & 0xFFFFFFFF).astype(np.int64)


def _guesses(row: npt.NDArray[np.floating[Any]], depth: int) -> list[float]:
    """Guess cuts above which about 1.2 and 4 times ``depth`` entries lie, from every n-th entry."""
    stride = len(row) // _SAMPLE
    if stride < 2:
        return []
    sample = row[::stride]
    ranks = [int(factor * depth / stride) + 8 for factor in (1.2, 4.0)]
    places = [len(sample) - rank for rank in ranks if rank < len(sample) // 2]
    return np.partition(sample, places)[places].tolist() if places else []


class Queues:
    """The heads of all queues, moved on past rows that are taken."""

    def __init__(self, scores: Scores, budget: int, barred: Mask | None = None) -> None:
        """Rank what ``budget`` rows in all will need; ``barred`` rows count as taken from the start."""
        self._scores = scores
        num_clusters, self._num_pool = scores.shape
        # One flag more than rows: the mark at the end of each queue is the row after the last and never taken.
        self._flags = np.zeros(self._num_pool + 1, np.bool_)
        if barred is not None:
            self._flags[:-1] = barred
        self._depth = scores.first_depth(budget)
        width = self._depth + _LOOK_AHEAD + 1
        self._starts = np.arange(num_clusters) * width
        self._heads, self._ends = self._starts.copy(), self._starts.copy()
        everyone = np.arange(num_clusters)
        ranked = scores.best(everyone, self._depth, self.taken)
        # Each queue ends with marks, as many as are looked at in one go.
        small = self._num_pool < np.iinfo(np.int32).max
        self._rows = np.full((num_clusters, width), self._num_pool, np.int32 if small else np.int64)
        self._values = np.zeros((num_clusters, width), ranked.values.dtype)
        self._queued, self._similarity = self._rows.reshape(-1), self._values.reshape(-1)
        self._hold(everyone, ranked)

    def _hold(self, clusters: Rows, ranked: Ranked) -> None:
        """Let the queues of some clusters begin anew with what was ranked for them."""
        depth, known = ranked.indices.shape[1], ranked.indices >= 0
        rows = ranked.indices if known.all() else np.where(known, ranked.indices, self._num_pool)
        self._rows[clusters, :depth] = rows
        self._rows[clusters, depth:] = self._num_pool
        self._values[clusters, :depth] = ranked.values
        self._heads[clusters] = self._starts[clusters]
        self._ends[clusters] = self._starts[clusters] + known.sum(axis=1)

    @property
    def taken(self) -> Mask:
        """Which pool rows are taken [num_pool]."""
        return self._flags[:-1]

    def heads(self) -> tuple[Rows, npt.NDArray[np.float64]]:
        """Give each centroid's best row not taken, and its similarity; at least one row must be free."""
        rows = self._advance()
        return rows.astype(np.int64), self._similarity.take(self._heads).astype(np.float64)

    def take(self, rows: Rows) -> None:
        """Mark rows as taken for all centroids."""
        self._flags[rows] = True

    def play(self, num_rounds: int) -> tuple[Rows, npt.NDArray[np.float64]]:
        """Play up to ``num_rounds`` rounds: in each, every centroid takes its best row not taken in rounds before.

        The pool must hold rows enough for all of them. Gives the rows and their similarities [num_played,
        num_clusters], of one round at least.
        """
        self._advance()
        num_clusters = len(self._heads)
        num_rounds = min(num_rounds, int((self._ends - self._heads).min()))
        places = self._free_places(min(2 * num_rounds + _LOOK_AHEAD, max(1, _WINDOW // num_clusters)))
        rows = self._queued.take(places)
        turns, num_picks = self._contested(rows)
        num_played = min(num_rounds, int(num_picks.min()))
        # In row-major order: each centroid's picks by round, equally many for all.
        picks = np.flatnonzero(turns < num_played).reshape(num_clusters, num_played)
        places, chosen = places.reshape(-1)[picks], rows.reshape(-1)[picks]
        self._heads = places[:, -1] + 1
        self.take(chosen)
        return chosen.T.astype(np.int64), self._similarity.take(places.T).astype(np.float64)

    def _free_places(self, width: int) -> Rows:
        """Find each queue's next ``width`` entries that are not taken [num_clusters, width], padded with its end.

        They are looked for a few times as far ahead: where queues overlap, most entries are taken.
        """
        ahead = np.minimum(self._heads[:, None] + np.arange(4 * width), self._ends[:, None])
        rows = self._queued.take(ahead)
        free = (rows != self._num_pool) & ~self._flags.take(rows)
        number = np.cumsum(free, axis=1, dtype=np.int32)
        free &= number <= width
        places = np.repeat(self._ends[:, None], width, axis=1)
        # Both in row-major order: the first places of each centroid, as many as are free.
        places[np.arange(width) < number[:, -1:]] = ahead.reshape(-1)[np.flatnonzero(free)]
        return places

    def _contested(self, rows: npt.NDArray[np.signedinteger[Any]]) -> tuple[Turns, Turns]:
        """Say in which round from now each entry of windows ``rows`` [num_clusters, width] is picked by its centroid.

        A centroid passes over what others have taken in rounds before, and picks one of the rest a round. So the
        round in which it comes to an entry is the number of its picks before that one, and it passes over the
        entry if another comes to the same row in an earlier round. Starting with nothing passed over, this is put
        in order until nothing changes, which comes after a few times, for only rows in several windows matter. By
        induction over rounds, what stands then is the outcome of playing them one after another.

        Returns:
            Rounds [num_clusters, width], beyond all where the entry is not picked, and the number of picks of each
            centroid. Rounds at or past the least of these depend on what lies behind the windows.
        """
        free = rows != self._num_pool
        shared, starts = self._in_several(rows, np.flatnonzero(free))
        sizes = np.diff(np.append(starts, len(shared)))
        picked = free.astype(np.int32)
        contested = picked.reshape(-1)
        while True:
            turns = np.cumsum(picked, axis=1, dtype=np.int32)
            if not len(shared):
                break
            coming = turns.reshape(-1)[shared] - contested[shared]
            picks = coming == np.repeat(np.minimum.reduceat(coming, starts), sizes)
            if np.array_equal(picks, contested[shared]):
                break
            contested[shared] = picks
        num_picks = turns[:, -1].copy()
        turns -= 1
        turns[picked == 0] = rows.size
        return turns, num_picks

    def _in_several(self, rows: npt.NDArray[np.signedinteger[Any]], free: Rows) -> tuple[Rows, Rows]:
        """Find which of the ``free`` places hold a row that another one holds too: grouped by row, and the starts."""
        shift = rows.size.bit_length()
        keys = rows.reshape(-1)[free].astype(np.int64) << shift | free
        keys.sort()
        known = keys >> shift
        new = np.append(True, known[1:] != known[:-1])[: len(known)]
        alone = new & np.append(new[1:], True)[: len(new)]
        several = np.flatnonzero(~alone)
        return keys[several] & ((1 << shift) - 1), np.flatnonzero(new[several])

    def _advance(self) -> npt.NDArray[np.signedinteger[Any]]:
        """Move heads to rows that are free, ranking dry queues again; give those rows."""
        rows = self._skip()
        while rows[rows.argmax()] == self._num_pool:
            self._refill(rows == self._num_pool)
            rows = self._skip()
        return rows

    def _skip(self) -> npt.NDArray[np.signedinteger[Any]]:
        """Move heads past taken rows, looking some rows ahead at once."""
        rows = self._queued.take(self._heads)
        passed = np.flatnonzero(self._flags.take(rows))
        while len(passed):
            places = self._heads[passed] + 1
            # The first that is free; where none is, the next one, which is looked at again.
            places += self._flags.take(self._queued.take(places[:, None] + _AHEAD)).argmin(axis=1)
            found = self._queued.take(places)
            self._heads[passed], rows[passed] = places, found
            passed = passed[self._flags.take(found)]
        return rows

    def _refill(self, dry: Mask) -> None:
        """Rank again the dry queues, and those so near it that they had better be ranked along with them."""
        left = (self._ends - self._heads) / self._depth
        clusters = np.flatnonzero(dry | (left < self._scores.top_up))
        self._hold(clusters, self._scores.best(clusters, self._depth, self.taken))
