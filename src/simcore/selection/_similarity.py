"""Blocked similarity: the pool rows nearest to each centroid, exactly, without a matrix of all pairs.

One pass over the tiles of the pool computes every similarity with matrix products, whose last bits depend on tiles,
threads and device, and keeps for each centroid the best few as candidates. What is compared and reported is a
candidate's settled similarity: an fp32 sum in one fixed order, which depends on the two vectors alone. A bound on the
difference of the two says how far down the candidates' settled order is known to be that of the whole pool. More
candidates are settled as the queues are read, and where they end, another pass is made.
"""

from __future__ import annotations

import numpy as np

from simcore.selection._candidates import LOWEST, Candidates, Found, RunningTop
from simcore.selection._features import Features, Float32, Mask, Rows
from simcore.selection._products import products_with
from simcore.selection._queues import Ranked
from simcore.selection._screen import Screen, screen_that_pays
from simcore.selection._threads import threaded

_PRODUCT_NUMBERS = 1 << 20  # similarities in a tile's product: 4 MB in fp32
_CANDIDATE_BYTES = 1 << 29  # of candidates held by one pass
_SAMPLE_STRIDE = 64
_SCREEN_ROWS = 2_048  # of those sampled, on which screens are tried


class FeatureScores:
    """Similarities of unit centroids [num_clusters, dim] to the rows of a pool, ranked as they are asked for."""

    top_up = 0.3  # ranking many at once keeps all threads busy, and what has been settled stays so

    def __init__(self, centroids: Float32, pool: Features, budget: int) -> None:
        """Plan for a ``budget`` of rows in all."""
        self._centroids, self._pool = np.ascontiguousarray(centroids), pool
        # Bound on an fp32 sum of dim products of unit vectors in any order, for the fast sum and for the settled one.
        self._error = 2 * (pool.dim + 16) * 2.0**-24
        self._depth = 6 * -(-budget // len(centroids)) + 256
        self._held: dict[int, Candidates] = {}
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
                found.update(self._rank(group, depth, taken))
            wanting = [cluster for cluster in wanting if not len(found[cluster][0]) and self._forget(cluster)]
            held_depth *= 4
        return _padded([found[int(cluster)] for cluster in clusters], depth)

    def _groups(self, clusters: list[int], depth: int) -> list[list[int]]:
        """Split clusters so that the candidates of one pass fit in memory."""
        size = max(1, _CANDIDATE_BYTES // (64 * min(depth, self._pool.num_rows)))
        return [clusters[first : first + size] for first in range(0, len(clusters), size)]

    def _forget(self, cluster: int) -> bool:
        """Drop candidates that are used up; False where they were all the rows there are."""
        del self._reach[cluster]
        return bool(self._held.pop(cluster).floor > LOWEST)

    def _rank(self, clusters: list[int], depth: int, taken: Mask | None) -> dict[int, tuple[Rows, Float32]]:
        """Order the best candidates of clusters by settled similarity, as far down as that is the pool's order."""
        ranked: dict[int, tuple[Rows, Float32]] = {}
        free = {cluster: self._held[cluster].first_free(depth + 16, taken) for cluster in clusters}
        while free:
            self._settle({cluster: best for cluster, (best, _) in free.items()})
            short = {}
            for cluster, (best, rest) in free.items():
                known = self._held[cluster].in_order(best, rest, self._error)
                if len(known[0]) or rest == len(self._held[cluster].values):
                    ranked[cluster] = known[0][:depth], known[1][:depth]
                else:
                    short[cluster] = self._held[cluster].first_free(4 * len(best), taken)
            free = short
        return ranked

    def _settle(self, places: dict[int, Rows]) -> None:
        """Settle the similarity of candidates, given by cluster, for which it is not known yet."""
        unknown = {cluster: some[np.isnan(self._held[cluster].settled[some])] for cluster, some in places.items()}
        rows = [self._held[cluster].indices[some] for cluster, some in unknown.items()]
        counts = [len(some) for some in rows]
        owners = np.repeat(np.fromiter(unknown, np.int64, len(unknown)), counts)
        settled = self._pool.cosines(np.concatenate(rows), self._centroids, owners)
        for (cluster, some), values in zip(unknown.items(), np.split(settled, np.cumsum(counts)[:-1]), strict=True):
            self._held[cluster].settled[some] = values

    def _collect(self, clusters: list[int], depth: int, taken: Mask | None) -> None:
        """Read the pool once and hold the candidates of ``clusters`` among the rows not ``taken``."""
        if not clusters:
            return
        centroids, pool = self._centroids[clusters], self._pool
        spans = pool.spans(max(64, min(pool.tile_rows, _PRODUCT_NUMBERS // len(clusters))))
        with products_with(centroids, pool.num_rows) as multiply:
            cuts, screen = self._first_cuts(centroids, depth)
            best = RunningTop(min(depth, pool.num_rows), cuts)

            def similar(span: tuple[int, int]) -> Found:
                tile = pool.tile(*span)
                wanted = tile.valid if taken is None else tile.valid & ~taken[slice(*span)]
                if screen is not None:
                    wanted = wanted & screen.may_reach(tile, best.cuts)
                chosen = np.flatnonzero(wanted)
                product = multiply(tile.rows if len(chosen) == len(wanted) else tile.rows[chosen])
                product /= tile.norms[chosen]
                return best.above(product, chosen + span[0])

            for found in threaded(similar, spans):
                best.add(found)
        self._held.update(zip(clusters, best.candidates(), strict=True))
        self._reach.update(dict.fromkeys(clusters, depth))

    def _first_cuts(self, centroids: Float32, depth: int) -> tuple[Float32, Screen | None]:
        """Guess from every 64th row where the best ``depth`` of each cluster begin; a low guess only costs time.

        The same rows tell whether a screen pays.
        """
        sampled = np.arange(0, self._pool.num_rows, _SAMPLE_STRIDE)
        expected = depth / _SAMPLE_STRIDE
        rank = int(1.25 * expected + 4 * expected**0.5) + 8
        best = np.full((len(centroids), rank), LOWEST, np.float32)
        if rank > len(sampled) // 4:
            return best[:, 0], None
        size = max(rank, _PRODUCT_NUMBERS // 4 // max(len(centroids), self._pool.dim))

        def similar(first: int) -> Float32:
            tile = self._pool.some(sampled[first : first + size])
            return np.where(tile.valid, centroids @ tile.rows.T / tile.norms, LOWEST)

        for product in threaded(similar, range(0, len(sampled), size)):
            best = np.partition(np.concatenate([best, product], axis=1), -rank, axis=1)[:, -rank:]
        cuts = np.ascontiguousarray(best[:, 0])
        return cuts, screen_that_pays(centroids, self._pool.some(sampled[:: -(-len(sampled) // _SCREEN_ROWS)]), cuts)


def _padded(lists: list[tuple[Rows, Float32]], depth: int) -> Ranked:
    depth = min(depth, max(len(indices) for indices, _ in lists))
    ranked = Ranked(np.full((len(lists), depth), -1, np.int64), np.zeros((len(lists), depth), np.float32))
    for place, (indices, values) in enumerate(lists):
        ranked.indices[place, : len(indices)] = indices
        ranked.values[place, : len(values)] = values
    return ranked
