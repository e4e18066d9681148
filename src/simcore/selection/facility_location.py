"""Facility location: each pick is the row that adds most to how well the target is covered."""

from __future__ import annotations

import dataclasses

import numpy as np

from simcore.artifacts import Selection
from simcore.errors import UsageError
from simcore.selection._base import Job, Selector, selection
from simcore.selection._coverage import Coverage
from simcore.selection._features import Features, Float32, Mask, Rows
from simcore.selection._kmeans import kmeans
from simcore.selection._queues import Ranked
from simcore.settings import setting

__all__ = ["FacilityLocation"]

MAX_ENTRIES = 1 << 22  # of all neighbour lists together, some 50 bytes each at most


@dataclasses.dataclass(frozen=True, kw_only=True)
class FacilityLocation(Selector):
    """Greedy maximisation of f(S) = sum over x of max(0, max over u in S of cos(x, u)).

    It is the objective that SimCore states (arXiv 2303.11101, section 3) and its rounds only approximate. Greedy
    comes within 1 - 1/e of the best S (Nemhauser, Wolsey, Fisher, 1978; lazy evaluation: Minoux, 1978). Once no row
    adds anything, each x has its nearest row and wants one more: f becomes the sum of the 2, 3, ... largest cosines
    of each x (a b-matching that grows with the budget; beyond 8 the cap grows by a quarter). ``cap`` starts higher.

    Each x knows its ``num_near`` nearest rows and counts others as 0, so memory is O(|X| num_near) (Lindgren, Wu,
    Dimakis, "Leveraging Sparsity for Efficient Submodular Data Summarization", NeurIPS 2016). Unset, lists are as
    long as 4 million entries in all allow: whole for small pools, where the greedy is that of the full matrix. When
    lists are used up, new ones are made of the rows left.

    ``rounds`` counts the caps gone through; objective: the mean over x of its capped sum when each cap was done.
    """

    num_clusters: int | None = setting(None, "cover this many k-means centroids of the target instead of its rows")
    cap: int = setting(1, "rows that each x wants at first")
    whiten: bool = setting(False, "compare on features whitened by the pool's covariance")
    num_near: int | None = setting(None, "nearest rows that each x knows; unset: as many as memory allows")
    seed: int = setting(0, "seed of k-means")

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        super().__post_init__()
        for name in ("num_clusters", "cap", "num_near"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UsageError(f"{name} must be 1 or more, not {getattr(self, name)}")

    def choose(self, job: Job) -> Selection:
        """Cover the target from the lists of each x, then from lists of the rows left, until the budget is met."""
        budget = job.budget()
        wanting, pool = job.placed() if self.whiten else (job.target, job.pool)
        if self.num_clusters is not None:
            wanting = kmeans(wanting, self.num_clusters, seed=self.seed).centroids
        greedy = _Greedy(
            pool, ~job.pool.valid, wanting, self.cap, self.num_near or max(64, MAX_ENTRIES // len(wanting))
        )
        while len(greedy.picks) < budget:
            greedy.cover(budget)
        rows, rounds, nearest = np.asarray(greedy.picks, np.int64).reshape(-1, 3).T
        return selection(
            rows,
            stop_reason=job.ending,
            rounds=rounds.astype(np.int32),
            clusters=nearest.astype(np.int32),
            similarities=_similarities(pool, rows, wanting[nearest]),
            objective=tuple(greedy.objective),
        )


class _Greedy:
    """The picks so far, and the lists that the next ones come from."""

    def __init__(self, pool: Features, barred: Mask, wanting: Float32, cap: int, depth: int) -> None:
        self._pool, self._barred, self._wanting, self._cap, self._depth = pool, barred, wanting, cap, depth
        self._round = 0
        self.picks: list[tuple[int, int, int]] = []  # row, round, x
        self.objective: list[float] = []

    def cover(self, budget: int) -> None:
        """Make lists of the rows left and pick from them until the budget is met or they have nothing to add."""
        lists = self._lists()
        # Where no cosine is positive, all of them are raised by 1, so that the nearest rows still come first.
        positive = bool((lists.values[lists.indices >= 0] > 0).any())
        coverage = Coverage(lists, self._pool.num_rows, offset=0.0 if positive else 1.0 + 1e-6)
        cap = self._cap
        while len(self.picks) < budget:
            coverage.set_cap(cap)
            self._round += 1
            before = len(self.picks)
            self._pick(coverage, budget)
            self.objective.append(coverage.value())
            if len(self.picks) == before:
                return
            cap += max(1, cap // 4)

    def _lists(self) -> Ranked:
        """List for each x its nearest rows left, as many as wanted where there are; near ties may need another try."""
        wanted = min(self._depth, int(np.count_nonzero(~self._barred)))
        asked = wanted
        while True:
            scores = self._pool.scores(self._wanting, 1)
            lists = scores.best(np.arange(len(self._wanting)), asked, self._barred)
            whole = lists.indices.shape[1] >= wanted and bool((lists.indices[:, :wanted] >= 0).all())
            if whole or asked > 2 * self._pool.num_rows:
                return Ranked(lists.indices[:, :wanted], lists.values[:, :wanted])
            asked *= 2

    def _pick(self, coverage: Coverage, budget: int) -> None:
        """Take rows while one adds something."""
        while len(self.picks) < budget:
            row, gain = coverage.best()
            if gain <= 0:
                return
            self.picks.append((row, self._round, coverage.nearest(row)))
            coverage.take(row)
            self._barred[row] = True


def _similarities(pool: Features, rows: Rows, nearest: Float32) -> Float32:
    """Give the cosine of each pick to the x it is nearest to."""
    found = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), 1024):
        tile = pool.some(rows[start : start + 1024])
        found[start : start + 1024] = np.einsum("ij,ij->i", tile.rows, nearest[start : start + 1024]) / tile.norms
    return found
