"""Blocked similarity: the pool rows nearest to each centroid, exactly, without a matrix of all pairs.

One pass over the tiles of the pool computes every similarity with matrix products, whose last bits depend on tiles,
threads and device, and keeps for each centroid the best few as candidates. What is compared and reported is a
candidate's settled similarity: an fp32 sum in one fixed order, which depends on the two vectors alone. A bound on the
difference of the two says how far down the candidates' settled order is known to be that of the whole pool. More
candidates are settled as the queues are read, and where they end, another pass is made.
"""

from __future__ import annotations

import numpy as np

from simcore.selection._features import Features, Float32, Mask, Rows
from simcore.selection._products import products_with
from simcore.selection._queues import Ranked
from simcore.selection._threads import threaded

_PRODUCT_NUMBERS = 1 << 20  # similarities in a tile's product: 4 MB in fp32
_CANDIDATE_BYTES = 1 << 29  # of candidates held by one pass
_SAMPLE_STRIDE = 64
_LOWEST = np.finfo(np.float32).min


class FeatureScores:
    """Similarities of unit centroids [num_clusters, dim] to the rows of a pool, ranked as they are asked for."""

    top_up = 0.3  # ranking many at once keeps all threads busy, and what has been settled stays so

    def __init__(self, centroids: Float32, pool: Features, budget: int) -> None:
        """Plan for a ``budget`` of rows in all."""
        self._centroids, self._pool = np.ascontiguousarray(centroids), pool
        # Bound on an fp32 sum of dim products of unit vectors in any order, for the fast sum and for the settled one.
        self._error = 2 * (pool.dim + 16) * 2.0**-24
        self._depth = 6 * -(-budget // len(centroids)) + 256
        self._held: dict[int, _Candidates] = {}
        self._reach: dict[int, int] = {}  # how many candidates were asked for

    @property
    def shape(self) -> tuple[int, int]:
        """(num_clusters, num_pool)."""
        return len(self._centroids), self._pool.num_rows

    def prepare(self) -> None:
        """Make the first pass over the pool now, which also tells which of its rows are valid."""
        for group in self._groups(list(range(len(self._centroids))), self._depth):
            self._collect(group, self._depth, None)

    def first_depth(self, budget: int) -> int:
        """Settle an eighth of what is surely read: what others take meanwhile need not be settled."""
        return min(self.shape[1], -(-budget // self.shape[0]) // 8 + 16)

    def best(self, clusters: Rows, depth: int, taken: Mask | None) -> Ranked:
        """Rank for each of ``clusters`` up to ``depth`` of its most similar rows among those not ``taken``."""
        found: dict[int, tuple[Rows, Float32]] = {}
        wanting = [int(cluster) for cluster in clusters]
        held_depth = max(self._depth, depth)
        while wanting:
            for group in self._groups(wanting, held_depth):
                lacking = [cluster for cluster in group if self._reach.get(cluster, 0) < depth]
                self._collect(lacking, held_depth, taken)
                ranked = threaded(lambda cluster: self._rank(cluster, depth, taken), group)
                found.update(zip(group, ranked, strict=True))
            wanting = [cluster for cluster in wanting if not len(found[cluster][0]) and self._forget(cluster)]
            held_depth *= 4
        return _padded([found[int(cluster)] for cluster in clusters], depth)

    def _groups(self, clusters: list[int], depth: int) -> list[list[int]]:
        """Split clusters so that the candidates of one pass fit in memory."""
        size = max(1, _CANDIDATE_BYTES // (24 * min(depth, self._pool.num_rows)))
        return [clusters[first : first + size] for first in range(0, len(clusters), size)]

    def _forget(self, cluster: int) -> bool:
        """Drop candidates that are used up; False where they were all the rows there are."""
        del self._reach[cluster]
        return bool(self._held.pop(cluster).floor > _LOWEST)

    def _rank(self, cluster: int, depth: int, taken: Mask | None) -> tuple[Rows, Float32]:
        """Order the best of a cluster's candidates by settled similarity, as far down as that is the pool's order."""
        held = self._held[cluster]
        free = held.first_free(depth + 16, taken)
        while True:
            best, rest = free
            self._settle(held, best, self._centroids[cluster])
            below = held.values[rest] if rest < len(held.values) else held.floor
            best = best[np.lexsort((held.indices[best], -held.settled[best]))]
            if below > _LOWEST:
                best = best[held.settled[best] > below + self._error]
            if len(best) or rest == len(held.values):
                return held.indices[best[:depth]], held.settled[best[:depth]]
            free = held.first_free(4 * len(free[0]), taken)

    def _settle(self, held: _Candidates, places: Rows, centroid: Float32) -> None:
        """Settle the similarity of candidates for which it is not known yet."""
        places = np.sort(places[np.isnan(held.settled[places])])
        held.settled[places] = self._pool.cosines(held.indices[places], centroid)

    def _collect(self, clusters: list[int], depth: int, taken: Mask | None) -> None:
        """Read the pool once and hold the candidates of ``clusters`` among the rows not ``taken``."""
        if not clusters:
            return
        centroids, pool = self._centroids[clusters], self._pool
        spans = pool.spans(max(64, min(pool.tile_rows, _PRODUCT_NUMBERS // len(clusters))))
        best = RunningTop(len(clusters), min(depth, pool.num_rows), spans[0][1], self._first_cuts(centroids, depth))

        def similar(span: tuple[int, int]) -> tuple[Rows, Rows, Float32]:
            tile = pool.tile(*span)
            product = multiply(tile.rows)
            product /= tile.norms
            out = ~tile.valid if taken is None else taken[span[0] : span[1]] | ~tile.valid
            if out.any():
                product[:, out] = -np.inf
            return best.above(product, span[0])

        with products_with(centroids, pool.num_rows) as multiply:
            for found in threaded(similar, spans):
                best.add(*found)
        self._held.update(zip(clusters, threaded(best.candidates, range(len(clusters))), strict=True))
        self._reach.update(dict.fromkeys(clusters, depth))

    def _first_cuts(self, centroids: Float32, depth: int) -> Float32:
        """Guess from every 64th row where the best ``depth`` of each cluster begin; a low guess only costs time."""
        sampled = np.arange(0, self._pool.num_rows, _SAMPLE_STRIDE)
        expected = depth / _SAMPLE_STRIDE
        rank = int(1.25 * expected + 4 * expected**0.5) + 8
        if rank > len(sampled) // 4:
            return np.full(len(centroids), _LOWEST, np.float32)
        size = max(rank, _PRODUCT_NUMBERS // 4 // max(len(centroids), self._pool.dim))
        best = RunningTop(len(centroids), rank, size, np.full(len(centroids), _LOWEST, np.float32))
        for first in range(0, len(sampled), size):
            tile = self._pool.some(sampled[first : first + size])
            best.add(*best.above(centroids @ tile.rows.T / tile.norms, first))
        return best.cuts_at_depth()


class _Candidates:
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


class RunningTop:
    """The largest ``depth`` entries, at least, of each row of a matrix that comes in column tiles."""

    def __init__(self, num_rows: int, depth: int, max_tile: int, cuts: Float32) -> None:
        """Hold entries at or above ``cuts`` [num_rows], which rise as better ones come."""
        self.cuts, self._depth = cuts.copy(), depth
        self._room = 2 * depth + max_tile
        self._fill = np.zeros(num_rows, np.int64)
        self._indices = np.empty((num_rows, self._room), np.int64)
        self._values = np.empty((num_rows, self._room), np.float32)

    def above(self, tile: Float32, start: int) -> tuple[Rows, Rows, Float32]:
        """Find a tile's entries that may belong: (rows, columns counted from ``start``, values), sorted by row."""
        flat = np.flatnonzero(tile >= self.cuts[:, None])
        rows, columns = np.divmod(flat, tile.shape[1])
        return rows, columns + start, tile.reshape(-1)[flat]

    def add(self, rows: Rows, columns: Rows, values: Float32) -> None:
        """Hold what :meth:`above` found, at most ``max_tile`` entries a row."""
        counts = np.bincount(rows, minlength=len(self._fill))
        for row in np.flatnonzero(self._fill + counts > self._room).tolist():
            self._shrink(row)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        place = self._fill[rows] + within
        self._indices[rows, place] = columns
        self._values[rows, place] = values
        self._fill += counts

    def _shrink(self, row: int) -> None:
        """Keep the largest ``depth`` and raise the cut to the least of them."""
        held = slice(0, self._fill[row])
        kept = np.argpartition(-self._values[row, held], self._depth - 1)[: self._depth]
        self._indices[row, : self._depth] = self._indices[row, kept]
        self._values[row, : self._depth] = self._values[row, kept]
        self._fill[row] = self._depth
        self.cuts[row] = max(self.cuts[row], self._values[row, : self._depth].min())

    def cuts_at_depth(self) -> Float32:
        """Give the ``depth``-th largest entry of each row, or the cut where there are fewer."""
        for row in np.flatnonzero(self._fill > self._depth).tolist():
            self._shrink(row)
        full = self._fill == self._depth
        return np.where(full, np.where(full[:, None], self._values[:, : self._depth], np.inf).min(axis=1), self.cuts)

    def candidates(self, row: int) -> _Candidates:
        """Give what a row holds; its last cut bounds everything that was let go."""
        held = slice(0, self._fill[row])
        return _Candidates(self._indices[row, held], self._values[row, held], float(self.cuts[row]))


def _padded(lists: list[tuple[Rows, Float32]], depth: int) -> Ranked:
    depth = min(depth, max(len(indices) for indices, _ in lists))
    ranked = Ranked(np.full((len(lists), depth), -1, np.int64), np.zeros((len(lists), depth), np.float32))
    for place, (indices, values) in enumerate(lists):
        ranked.indices[place, : len(indices)] = indices
        ranked.values[place, : len(values)] = values
    return ranked
