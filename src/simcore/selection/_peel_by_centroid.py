"""The rounds of the published rule with a stop of its own for each centroid."""

from __future__ import annotations

import numpy as np

from simcore.artifacts import Selection
from simcore.selection._base import selection
from simcore.selection._features import Float64, Mask
from simcore.selection._peel import Picks, ordered_picks, warn_of_empty
from simcore.selection._queues import Queues, Rows, Scores


def peel_by_centroid(
    scores: Scores, budget: int, *, stop_ratio: float, patience: int, ending: str, barred: Mask
) -> Selection:
    """Pick in rounds as :func:`peel` does, but let each centroid stop by itself.

    A centroid whose nearest free row is less similar than ``stop_ratio`` times its pick of round ``patience`` (or
    than 0, before that round) picks no more; the others go on until the budget is met or all have stopped. So modes
    that the pool holds little of end early and rich ones are not cut short by them. Objective of a round: the mean
    similarity over the centroids still picking.
    """
    state = _Rounds(scores.shape[0], stop_ratio, patience)
    if budget:
        queues = Queues(scores, budget, barred)
        while state.num_chosen < budget and state.play(queues):
            pass
    picks = state.picks()
    stopped = not state.picking.any()
    if stopped and not state.num_chosen:
        warn_of_empty()
    whole = selection(
        picks.indices,
        stop_reason="stop" if stopped else ending,
        rounds=picks.rounds,
        clusters=picks.clusters,
        similarities=picks.similarities.astype(np.float32),
        objective=tuple(state.objective),
        settings={"stop": {"round": len(state.objective) + 1}} if stopped else {},
    )
    return whole if len(whole) <= budget else whole.prefix(budget)


class _Rounds:
    """Rounds played so far, and which centroids are still picking."""

    def __init__(self, num_clusters: int, stop_ratio: float, patience: int) -> None:
        self._ratio, self._patience = stop_ratio, patience
        self._thresholds = np.zeros(num_clusters)
        self.picking = np.ones(num_clusters, np.bool_)
        self._played: list[tuple[Rows, Rows, Float64]] = []
        self.objective: list[float] = []
        self.num_chosen = 0

    def play(self, queues: Queues) -> bool:
        """Play one round; False where no centroid picks any more."""
        rows, values = queues.heads()
        if len(self.objective) + 1 == self._patience:
            self._thresholds = values * self._ratio
        self.picking &= ~(values < self._thresholds)
        if not self.picking.any():
            return False
        clusters = np.flatnonzero(self.picking)
        self._played.append((rows[clusters], clusters, values[clusters]))
        self.objective.append(float(values[clusters].mean()))
        self.num_chosen += len(np.unique(rows[clusters]))
        queues.take(rows[clusters])
        return True

    def picks(self) -> Picks:
        """Put the picks of all rounds in order."""
        nothing = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
        rows, clusters, values = (np.concatenate(parts) for parts in zip(nothing, *self._played, strict=True))
        numbers = np.repeat(np.arange(1, len(self._played) + 1), [len(played[0]) for played in self._played])
        return ordered_picks(rows, numbers, clusters, values)
