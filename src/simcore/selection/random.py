"""Random: picks drawn evenly without regard to the target; what every selector has to beat."""

from __future__ import annotations

import dataclasses

import numpy as np

from simcore.artifacts import Selection
from simcore.errors import UsageError
from simcore.selection._base import Job, Selector, selection
from simcore.selection._features import Rows
from simcore.settings import setting

__all__ = ["Random"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Random(Selector):
    """A uniform draw of pool rows without replacement; with ``by_class``, as many from each class of the pool.

    The order is one random permutation of the valid rows, so budgets nest. By class, classes take turns in a
    random order and a class that is used up is passed over; rows without a label form one class.
    """

    by_class: bool = setting(False, "take classes of the pool in turn (its rows must have labels)")
    seed: int = setting(0, "seed of the draw")

    def choose(self, job: Job) -> Selection:
        """Draw the picks."""
        budget = job.budget()
        rows = np.random.default_rng(self.seed).permutation(np.flatnonzero(job.pool.valid))
        if self.by_class:
            rows = self._in_turn(rows, job)
        return selection(rows[:budget], stop_reason=job.ending)

    def _in_turn(self, rows: Rows, job: Job) -> Rows:
        labels = job.pool_embeddings.labels[rows]
        if (labels < 0).all():
            raise UsageError("random by class needs a pool with labels; this one has none")
        order = np.argsort(labels, kind="stable")
        counts = np.unique(labels, return_counts=True)[1]
        turn = np.empty(len(rows), np.int64)  # how many of its class come before a row
        turn[order] = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        return rows[np.argsort(turn, kind="stable")]
