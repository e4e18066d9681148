"""SimCore: the published selector. Centroids of the target take their nearest pool rows in rounds.

Kim, Bae, Yun, "Coreset Sampling from Open-Set for Fine-Grained Self-Supervised Learning", CVPR 2023,
arXiv 2303.11101, Algorithm 1.
"""

from __future__ import annotations

import dataclasses

from simcore.artifacts import Selection
from simcore.errors import UsageError
from simcore.selection._base import Job, Selector
from simcore.selection._kmeans import ALGORITHMS, kmeans
from simcore.selection._peel import check_settings, peel_scores
from simcore.selection._peel_by_centroid import peel_by_centroid
from simcore.selection._queues import PoolScores
from simcore.selection._threads import one_thread_each
from simcore.settings import setting

__all__ = ["SimCore"]

PUBLISHED_STOP_RATIO = 0.95
STOPS = ("round", "centroid")
PUBLISHED_CAP = 50  # rows of the pool for each row of the target


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimCore(Selector):
    """k-means centroids of the target pick pool rows in rounds of nearest neighbours; see :func:`peel`.

    What ends it, as ``stop_ratio`` and the budget given to ``select`` say:

    =============  ======================  =============================
    stop_ratio     budget given            no budget
    =============  ======================  =============================
    None           the budget              stop at 0.95, at most 50 |X|
    0              the budget              50 |X|
    0 < r          stop at r, or budget    stop at r, at most 50 |X|
    =============  ======================  =============================

    ``stop_by="centroid"`` gives each centroid its own reference similarity, so that exhausted modes stop and rich
    ones go on. The objective of a round is the mean over centroids of the similarity of their pick.
    """

    num_clusters: int = setting(100, "k-means clusters of the target; its rows themselves where it has no more")
    stop_ratio: float | None = setting(
        None, "end when a round falls below this share of the reference round; 0 for never; unset: 0.95 without budget"
    )
    patience: int = setting(20, "number of the reference round (1: the paper's text, 20: its code)")
    stop_by: str = setting("round", "what stops: all at the mean of a round, or each centroid by itself", choices=STOPS)
    whiten: bool = setting(False, "compare on features whitened by the pool's covariance (not published)")
    num_restarts: int = setting(10, "k-means starts, of which the best is kept")
    algorithm: str = setting("lloyd", "k-means algorithm", choices=ALGORITHMS)
    seed: int = setting(0, "seed of k-means")

    def __post_init__(self) -> None:
        """Refuse settings out of range before any work."""
        super().__post_init__()
        check_settings(0, self.stop_ratio, self.patience)
        if self.num_clusters < 1 or self.num_restarts < 1:
            raise UsageError("num_clusters and num_restarts must be 1 or more")

    @property
    def needs_budget(self) -> bool:
        """It stops by the published rule."""
        return False

    def choose(self, job: Job) -> Selection:
        """Cluster the target, rank the pool once, peel."""
        cap = PUBLISHED_CAP * len(job.target)
        asked = cap if job.asked is None else job.asked
        target, pool = job.placed() if self.whiten else (job.target, job.pool)
        groups = kmeans(
            target,
            self.num_clusters,
            num_restarts=self.num_restarts,
            algorithm=self.algorithm,
            seed=self.seed,
        )
        scores = pool.scores(groups.centroids, min(asked, job.pool.num_rows))
        with one_thread_each():
            scores.prepare()
            return self._peel(scores, job, job.budget(cap))

    def _peel(self, scores: PoolScores, job: Job, budget: int) -> Selection:
        stop_ratio, barred = self._stop_ratio(job), ~job.pool.valid
        if self.stop_by == "centroid" and stop_ratio is not None:
            return peel_by_centroid(
                scores, budget, stop_ratio=stop_ratio, patience=self.patience, ending=job.ending, barred=barred
            )
        return peel_scores(
            scores, budget, stop_ratio=stop_ratio, patience=self.patience, ending=job.ending, barred=barred
        )

    def _stop_ratio(self, job: Job) -> float | None:
        if self.stop_ratio is None:
            return PUBLISHED_STOP_RATIO if job.asked is None else None
        return self.stop_ratio or None
