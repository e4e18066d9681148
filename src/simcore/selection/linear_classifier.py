"""Linear classifier: the density ratio as the log-odds of a logistic regression of target against pool."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np

from simcore.artifacts import Selection
from simcore.errors import UsageError
from simcore.selection._base import Job, Selector
from simcore.selection._features import Features, Float32, Float64, Rows
from simcore.selection._kmeans import kmeans
from simcore.selection._nearest import nearness
from simcore.selection._ranking import QUOTAS, by_score, from_order, in_turns
from simcore.selection._space import LENGTH, Space, whitened_space
from simcore.selection._threads import one_thread_each, threaded
from simcore.selection.density_ratio import background
from simcore.settings import setting

__all__ = ["LinearClassifier"]

FOLDS = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearClassifier(Selector):
    """Rows that a logistic regression, trained to tell the target from the pool, is surest are target.

    Trained on as much weight of either, its logit estimates log p_X / p_U (Qin, "Inferences for case-control and
    semiparametric two-sample density ratio models", Biometrika 1998). Two models are trained on two samples of the
    pool, and a sampled row is judged by the model that did not see it, since training pushes it away from the
    target. Objective: the mean score over the picks.
    """

    num_background: int = setting(5500, "pool rows drawn at random for each of the two models")
    inverse_penalty: float = setting(0.1, "C of the logistic regression: larger fits closer")
    whiten: bool = setting(True, "train on features whitened by the pool's covariance")
    quota: str = setting("none", "let clusters of the target, or its rows, pick in turn", choices=QUOTAS)
    num_clusters: int = setting(100, "clusters of the target for the quota and for reports")
    seed: int = setting(0, "seed of the samples and of k-means")

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        super().__post_init__()
        if self.num_background < 1 or self.num_clusters < 1 or not 0 < self.inverse_penalty < float("inf"):
            raise UsageError("num_background, num_clusters and inverse_penalty must be above 0")

    def choose(self, job: Job) -> Selection:
        """Train, judge every row, take the best."""
        job.budget()
        space = whitened_space(job.pool) if self.whiten else Space()
        target = space.place(job.target64)
        scores = self._scores(job, space, target)
        near = nearness(space, job.pool, target, 1)
        groups = kmeans(job.target, self.num_clusters, num_restarts=1, seed=self.seed)
        order = by_score(scores)
        if self.quota != "none":
            owner = groups.labels[near.nearest] if self.quota == "cluster" else near.nearest
            weights = groups.counts if self.quota == "cluster" else np.ones(len(target))
            order = in_turns(order, owner, weights.astype(np.float64))
        return from_order(order, job, clusters=groups.labels[near.nearest], similarities=near.best, objective=scores)

    def _scores(self, job: Job, space: Space, target: Float32) -> Float64:
        """Average over the models that did not train on a row."""
        drawn = background(job, FOLDS * self.num_background, self.seed)
        folds = np.random.default_rng([self.seed, 1]).permutation(len(drawn)) % FOLDS
        directions = np.stack(
            [self._train(target, space.take(job.pool, drawn[folds == fold])) for fold in range(FOLDS)]
        )
        return np.concatenate(job.pool.over_shards(_project, space, directions, drawn, folds))

    def _train(self, target: Float32, others: Float32) -> Float32:
        """Fit one model; its direction comes on the grid, so that scores are exact."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        if not len(others):
            return np.rint(_unit(target.mean(axis=0, dtype=np.float64)) * LENGTH).astype(np.float32)
        rows = np.concatenate([target, others]).astype(np.float64) / LENGTH
        labels = np.repeat([1, 0], [len(target), len(others)])
        model = LogisticRegression(C=self.inverse_penalty, class_weight="balanced", max_iter=1000)
        with one_thread_each(), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(rows, labels)
        return np.rint(_unit(model.coef_[0]) * LENGTH).astype(np.float32)


def _unit(direction: Float64) -> Float64:
    return direction / max(float(np.sqrt((direction**2).sum())), 1e-30)


def _project(pool: Features, first_row: int, space: Space, directions: Float32, drawn: Rows, folds: Rows) -> Float64:
    """Average each row's products with the directions of the models that it is not in; -inf for invalid rows."""
    judges, mine = np.ones((pool.num_rows, FOLDS), np.bool_), drawn - first_row
    inside = (mine >= 0) & (mine < pool.num_rows)
    judges[mine[inside], folds[inside]] = False
    scores = np.full(pool.num_rows, -np.inf)

    def project(span: tuple[int, int]) -> None:
        rows, valid = space.read(pool, *span)
        mine = judges[slice(*span)]
        logits = (rows @ directions.T).astype(np.float64) / LENGTH**2
        scores[slice(*span)] = np.where(valid, (logits * mine).sum(axis=1) / mine.sum(axis=1), -np.inf)

    with one_thread_each():
        for _ in threaded(project, pool.spans()):
            pass
    return scores
