"""Top: the pool rows most similar to the target, whichever they are."""

from __future__ import annotations

import dataclasses

from simcore.artifacts import Selection
from simcore.errors import UsageError
from simcore.selection._base import Job, Selector
from simcore.selection._kmeans import kmeans
from simcore.selection._nearest import nearness
from simcore.selection._ranking import by_score, from_order
from simcore.selection._space import Space, whitened_space
from simcore.settings import setting

__all__ = ["Top"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Top(Selector):
    """Rows with the highest mean cosine to their nearest target rows.

    Objective: the mean over the picks of that mean cosine. It is the plainest form of retrieval; rows near
    everything (hubs; Radovanovic et al., JMLR 2010) come first, which is what density_ratio mends.
    """

    num_near: int = setting(5, "nearest target rows to average over")
    whiten: bool = setting(False, "compare on features whitened by the pool's covariance")
    num_clusters: int = setting(100, "clusters of the target by which picks are told apart in reports")
    seed: int = setting(0, "seed of k-means")

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        super().__post_init__()
        if self.num_near < 1:
            raise UsageError(f"num_near must be 1 or more, not {self.num_near}")

    def choose(self, job: Job) -> Selection:
        """Judge every row, take the best."""
        job.budget()
        space = whitened_space(job.pool) if self.whiten else Space()
        near = nearness(space, job.pool, space.place(job.target64), self.num_near)
        groups = kmeans(job.target, self.num_clusters, num_restarts=1, seed=self.seed)
        return from_order(
            by_score(near.mean),
            job,
            clusters=groups.labels[near.nearest],
            similarities=near.best,
            objective=near.mean,
        )
