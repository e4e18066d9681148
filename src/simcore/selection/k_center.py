"""k-center: each pick is the pool row farthest from the target and from all earlier picks."""

from __future__ import annotations

import dataclasses

import numpy as np

from simcore.artifacts import Selection
from simcore.selection._base import Job, Selector, selection
from simcore.selection._features import Features, Float32, Rows
from simcore.selection._nearest import nearness
from simcore.selection._space import LENGTH, Space
from simcore.selection._threads import one_thread_each
from simcore.settings import setting

__all__ = ["KCenter"]

_AT_ONCE = 2048


@dataclasses.dataclass(frozen=True, kw_only=True)
class KCenter(Selector):
    """Farthest-first traversal: a 2-approximation of covering the pool with balls of the least radius.

    Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985; as a coreset: Sener, Savarese,
    "Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018. The target's rows are
    centres from the start unless ``cover_target`` is false, where the first pick is the lowest valid row. It spreads
    over the whole pool, so it serves as a baseline. ``similarities`` holds the largest cosine to an earlier centre;
    objective: that of the last pick, the covering radius as a cosine.
    """

    cover_target: bool = setting(True, "count the target's rows as centres that are there already")

    def choose(self, job: Job) -> Selection:
        """Pick the farthest row until the budget is met."""
        budget = job.budget()
        space = Space()
        if self.cover_target:
            closest = nearness(space, job.pool, space.place(job.target64), 1).best * LENGTH**2
        else:
            closest = np.where(job.pool.valid, np.float32(-(LENGTH**2)), np.nan)
        picks, similarity = _Traversal(space, job.pool, closest.astype(np.float32)).run(budget)
        return selection(
            picks,
            stop_reason=job.ending,
            rounds=np.arange(1, len(picks) + 1, dtype=np.int32),
            similarities=similarity,
            objective=(float(similarity[-1]),) if len(picks) else (),
        )


class _Traversal:
    """Lazy farthest-first: a row's largest product with a centre only grows, so an old value is a lower bound.

    Only rows that could be farthest are brought up to date, ``_AT_ONCE`` at a time.
    """

    def __init__(self, space: Space, pool: Features, closest: Float32) -> None:
        """Take each row's largest grid product with a centre so far [num_pool], NaN for invalid rows."""
        self._space, self._pool = space, pool
        self._bound = np.rint(np.where(np.isnan(closest), np.inf, closest))
        self._seen = np.zeros(len(closest), np.int64)  # picks that a row's bound has taken into account

    def run(self, budget: int) -> tuple[Rows, Float32]:
        """Give ``budget`` rows in pick order, and the largest cosine to a centre when each was picked."""
        picks, values = np.zeros(budget, np.int64), np.zeros(budget, np.float32)
        centres = np.zeros((budget, self._pool.dim), np.float32)
        num = 0
        with one_thread_each():
            while num < budget:
                rows, bar = self._farthest()
                placed = self._space.take(self._pool, rows)
                self._update(rows, placed, centres, num)
                num = self._pick(rows, placed, bar, picks, values, centres, num)
        return picks, values / np.float32(LENGTH**2)

    def _farthest(self) -> tuple[Rows, tuple[float, int]]:
        """Give the rows that look farthest, in row order, and the first of the others as (bound, row)."""
        count = min(_AT_ONCE, len(self._bound))
        level = np.partition(self._bound, count - 1)[count - 1]
        below, level_rows = np.flatnonzero(self._bound < level), np.flatnonzero(self._bound == level)
        rows = np.sort(np.concatenate([below, level_rows[: count - len(below)]]))
        others = np.ones(len(self._bound), np.bool_)
        others[rows] = False
        rest = np.flatnonzero(others)
        bar = (np.inf, len(self._bound))
        if len(rest):
            nearest = rest[self._bound[rest].argmin()]
            bar = (float(self._bound[nearest]), int(nearest))
        return rows[np.isfinite(self._bound[rows])], bar

    def _update(self, rows: Rows, placed: Float32, centres: Float32, num: int) -> None:
        """Bring rows up to date with the picks that they have not been compared with."""
        for first in range(int(self._seen[rows].min()), num, 4096):
            products = placed @ centres[first : min(first + 4096, num)].T
            self._bound[rows] = np.maximum(self._bound[rows], products.max(axis=1))
        self._seen[rows] = num

    def _pick(
        self,
        rows: Rows,
        placed: Float32,
        bar: tuple[float, int],
        picks: Rows,
        values: Float32,
        centres: Float32,
        num: int,
    ) -> int:
        """Pick from up-to-date rows while none of the others could come before."""
        bounds = self._bound[rows]
        while num < len(picks):
            place = int(bounds.argmin())
            if not (bounds[place], rows[place]) < bar:
                break
            picks[num], values[num], centres[num] = rows[place], bounds[place], placed[place]
            bounds = np.maximum(bounds, placed @ placed[place])
            bounds[place] = np.inf
            num += 1
        taken = ~np.isfinite(bounds)
        self._bound[rows], self._seen[rows] = bounds, num
        self._bound[rows[taken]] = np.inf
        return num
