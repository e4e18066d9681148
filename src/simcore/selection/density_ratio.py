"""Density ratio: pool rows that are near the target and far from the rest of the pool."""

from __future__ import annotations

import dataclasses
import warnings
from typing import NamedTuple

import numpy as np

from simcore.artifacts import Selection
from simcore.errors import SimcoreWarning, UsageError
from simcore.selection._base import Job, Selector
from simcore.selection._features import Float64, Rows
from simcore.selection._kmeans import kmeans
from simcore.selection._nearest import Nearness, held_out, nearness, top_mean
from simcore.selection._ranking import QUOTAS, by_score, from_order, in_turns
from simcore.selection._space import Space, whitened_space
from simcore.selection._stopping import precision_curve
from simcore.settings import setting

__all__ = ["DensityRatio"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DensityRatio(Selector):
    """Mean cosine to the nearest target rows minus mean cosine to the nearest of a sample of the pool.

    A k-nearest-neighbour estimate of log p_X / p_U up to scale and shift (Sugiyama, Suzuki, Kanamori, "Density Ratio
    Estimation in Machine Learning", 2012): rows near everything lose by the second term what they gain by the
    first. Objective: the mean of the difference over the picks.

    With ``min_precision`` it stops where the estimated precision falls below that, which is to be trusted only with
    ``target_share`` given; see :func:`simcore.selection._stopping.precision_curve`.
    """

    num_near: int = setting(50, "nearest target rows to average over")
    num_background_near: int = setting(100, "nearest sampled pool rows to average over")
    num_background: int = setting(5500, "pool rows drawn at random to stand for the pool")
    whiten: bool = setting(True, "compare on features whitened by the pool's covariance")
    ridge: float = setting(1e-3, "share of the largest eigenvalue added before whitening")
    quota: str = setting("none", "let clusters of the target, or its rows, pick in turn", choices=QUOTAS)
    num_clusters: int = setting(100, "clusters of the target for the quota and for reports")
    min_precision: float | None = setting(None, "stop where the estimated precision falls below this (0 to 1)")
    target_share: float | None = setting(None, "share of the pool that is like the target; unset: estimated from above")
    seed: int = setting(0, "seed of the sample and of k-means")

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        super().__post_init__()
        for name in ("num_near", "num_background_near", "num_background", "num_clusters"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be 1 or more, not {getattr(self, name)}")
        for name in ("min_precision", "target_share"):
            if getattr(self, name) is not None and not 0 < getattr(self, name) <= 1:
                raise UsageError(f"{name} must lie above 0 and be at most 1, not {getattr(self, name)}")
        if not 0 < self.ridge < float("inf"):
            raise UsageError(f"ridge must be a number above 0, not {self.ridge}")

    @property
    def needs_budget(self) -> bool:
        """Not where a wanted precision ends it."""
        return self.min_precision is None

    def choose(self, job: Job) -> Selection:
        """Judge every row, then pick by score, in turns, or until precision falls."""
        if self.min_precision is None:
            job.budget()
        judged = self._judge(job)
        order = by_score(judged.scores)
        groups = kmeans(job.target, self.num_clusters, num_restarts=1, seed=self.seed)
        if self.quota != "none":
            owner = groups.labels[judged.near.nearest] if self.quota == "cluster" else judged.near.nearest
            weights = groups.counts if self.quota == "cluster" else np.ones(len(job.target))
            order = in_turns(order, owner, weights.astype(np.float64))
        stop: dict[str, float] = {}
        if self.min_precision is not None:
            order, stop = self._until_precision(order, judged)
        chosen = from_order(
            order,
            job,
            clusters=groups.labels[judged.near.nearest],
            similarities=judged.near.best,
            objective=judged.scores,
            limit=len(order) if stop else None,
        )
        return dataclasses.replace(chosen, settings={"stop": stop} if stop else {})

    def _judge(self, job: Job) -> _Judged:
        space = whitened_space(job.pool, self.ridge) if self.whiten else Space()
        target = space.place(job.target64)
        near = nearness(space, job.pool, target, self.num_near)
        rows = background(job, self.num_background, self.seed)
        sample = space.take(job.pool, rows)
        far = nearness(space, job.pool, sample, self.num_background_near, own=rows)
        # A pool of one row has no background; nothing is held against it then.
        scores = near.mean - np.where(np.isfinite(far.mean), far.mean, 0.0)
        known = held_out(target, self.num_near) - top_mean(target @ sample.T, min(self.num_background_near, len(rows)))
        return _Judged(near, scores, known)

    def _until_precision(self, order: Rows, judged: _Judged) -> tuple[Rows, dict[str, float]]:
        """Keep the longest prefix whose estimated precision is as wanted."""
        curve, share = precision_curve(judged.scores[order], judged.held_out, self.target_share)
        enough = np.flatnonzero(curve >= (self.min_precision or 0.0))
        length = int(enough[-1]) + 1 if len(enough) else 0
        if not length:
            warnings.warn(
                f"the coreset is empty: no part of the ranking reaches an estimated precision of {self.min_precision} "
                f"(the best is {curve[0]:.3f}); lower min_precision or give a budget",
                SimcoreWarning,
                stacklevel=3,
            )
        return order[:length], {"precision": float(curve[length - 1]) if length else 0.0, "target_share": share}


class _Judged(NamedTuple):
    near: Nearness
    scores: Float64
    held_out: Float64


def background(job: Job, num: int, seed: int) -> Rows:
    """Draw valid pool rows that stand for the pool, in row order."""
    valid = np.flatnonzero(job.pool.valid)
    drawn: Rows = np.sort(np.random.default_rng(seed).permutation(valid)[:num])
    return drawn
