"""Lists of the most similar rows, one from each shard of a pool, merged into those of the whole pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from simcore.selection._queues import Ranked

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class ShardRanked(NamedTuple):
    """What one shard has for some ``clusters`` [k]: the best rows of each, one list after the other.

    Attributes:
        clusters: which they are; any numbers, ascending.
        counts: lengths of the lists [k].
        rows, values: pool rows and similarities, best first within each list [counts.sum()].
        whole: whether a list holds every row there is; else at least one, and all others come after its last [k].
    """

    clusters: Rows
    counts: Rows
    rows: Rows
    values: npt.NDArray[np.float32]
    whole: Mask

    @classmethod
    def of_nothing(cls, clusters: Rows) -> Self:
        """Answer for a shard with no row left."""
        none = np.zeros(len(clusters), np.int64)
        return cls(clusters, none, np.zeros(0, np.int64), np.zeros(0, np.float32), np.ones(len(clusters), np.bool_))

    def without(self, clusters: Rows) -> Self:
        """Drop the lists of some clusters."""
        kept = ~np.isin(self.clusters, clusters)
        entries = np.repeat(kept, self.counts)
        return type(self)(
            self.clusters[kept], self.counts[kept], self.rows[entries], self.values[entries], self.whole[kept]
        )


class Merged(NamedTuple):
    """The lists of the whole pool, as far down as they are known, and which shards cut them short.

    ``short`` holds for each answer the clusters whose merged list ends, before the depth asked for, with that answer.
    """

    ranked: Ranked
    short: list[Rows]


def merge(answers: Sequence[ShardRanked], clusters: Rows, depth: int) -> Merged:
    """Merge the answers of all shards for ``clusters`` (ascending) into lists of up to ``depth`` rows.

    A row belongs to the merged list if no shard's list ended before it: what a shard has not listed comes after its
    last entry. So at least one row of each cluster is known where there is one.
    """
    owner = np.concatenate([np.repeat(np.searchsorted(clusters, a.clusters), a.counts) for a in answers])
    rows, values = (np.concatenate([getattr(answer, name) for answer in answers]) for name in ("rows", "values"))
    order = np.lexsort((rows, -values, owner))
    totals = np.bincount(owner, minlength=len(clusters))
    begins = np.cumsum(totals) - totals
    place = np.empty(len(order), np.int64)  # of each entry in the list of its cluster
    place[order] = np.arange(len(order)) - np.repeat(begins, totals)
    ends = _ends(answers, place)
    known = totals.copy()
    for answer, end in zip(answers, ends, strict=True):
        cut = np.searchsorted(clusters, answer.clusters)
        known[cut] = np.minimum(known[cut], end + 1)
    short = [answer.clusters[end + 1 < depth] for answer, end in zip(answers, ends, strict=True)]
    kept = np.minimum(known, depth)
    return Merged(_cut(rows[order], values[order], begins, kept), short)


def _ends(answers: Sequence[ShardRanked], place: Rows) -> list[Rows]:
    """Find where each list's last entry stands in its merged list; beyond all places for whole lists."""
    ends, first = [], 0
    for answer in answers:
        last = first + np.cumsum(answer.counts) - 1
        end = np.full(len(answer.clusters), len(place))
        end[~answer.whole] = place[last[~answer.whole]]
        ends.append(end)
        first += len(answer.rows)
    return ends


def _cut(rows: Rows, values: npt.NDArray[np.float32], begins: Rows, kept: Rows) -> Ranked:
    """Lay the first ``kept`` entries of each list out as a padded matrix."""
    width = int(kept.max(initial=0))
    ranked = Ranked(np.full((len(kept), width), -1, np.int64), np.zeros((len(kept), width), np.float32))
    listed = np.arange(width) < kept[:, None]
    entries = (begins[:, None] + np.arange(width))[listed]
    ranked.indices[listed], ranked.values[listed] = rows[entries], values[entries]
    return ranked


def stack(parts: Sequence[Ranked]) -> Ranked:
    """Put the lists of several groups of centroids under each other."""
    if len(parts) == 1:
        return parts[0]
    width = max(part.indices.shape[1] for part in parts)
    padding = [((0, 0), (0, width - part.indices.shape[1])) for part in parts]
    return Ranked(
        np.concatenate([np.pad(p.indices, pad, constant_values=-1) for p, pad in zip(parts, padding, strict=True)]),
        np.concatenate([np.pad(p.values, pad) for p, pad in zip(parts, padding, strict=True)]),
    )
