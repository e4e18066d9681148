"""The published selection rule: in each round every centroid takes its nearest pool row not taken in earlier rounds.

Kim, Bae, Yun, "Coreset Sampling from Open-Set for Fine-Grained Self-Supervised Learning", CVPR 2023
(arXiv 2303.11101), Algorithm 1, with the stopping rule of its released code.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from simcore.artifacts import Selection
from simcore.errors import SimcoreError, SimcoreWarning, UsageError
from simcore.selection._queues import Mask, MatrixScores, Queues, Rows, Scores
from simcore.selection._threads import threaded

MAX_ROUNDS_AT_ONCE = 256


def peel(similarity: npt.ArrayLike, *, budget: int, stop_ratio: float | None = None, patience: int = 20) -> Selection:
    """Choose pool rows by rounds of nearest neighbours to each centroid.

    In round t each centroid picks its most similar row among those not picked in rounds before t. Two centroids
    may pick the same row in one round; it then counts once in the coreset and twice in the round's objective
    f_t, the mean over centroids of the similarities picked. With ``stop_ratio`` the round in which
    f_t < stop_ratio * f_patience is discarded and ends the selection; before round ``patience`` the threshold is
    0, so only a negative f_t stops it. (``patience=1`` is the paper's wording, 20 what its code does; with a
    ``patience`` of 0 or past the last round the threshold stays 0.)

    Picks come by round, within a round by similarity descending, then row ascending; the last round keeps its
    first ones when it overflows the budget. So the picks of a smaller budget are a prefix of those of a larger one.

    Args:
        similarity: finite numbers [num_clusters, num_pool]; equal ones are ordered by pool row.
        budget: rows wanted; more than ``num_pool`` is clamped with a warning, 0 gives none with a warning.
        stop_ratio: threshold relative to the reference round; None never stops before the budget.
        patience: 1-based number of the reference round.

    Returns:
        Selection with ``objective`` f_t of every kept round; where a stop fired, ``settings["stop"]`` holds the
        round, its objective and the threshold.

    Raises:
        SimcoreError: the matrix is empty, not 2-D, or holds NaN or infinity.
        UsageError: a negative budget, patience or stop ratio.
    """
    matrix = _checked(similarity)
    check_settings(budget, stop_ratio, patience)
    num_pool = matrix.shape[1]
    chosen = peel_scores(
        MatrixScores(matrix),
        clamp(budget, num_pool),
        stop_ratio=stop_ratio,
        patience=patience,
        ending="exhausted" if budget > num_pool else "budget",
    )
    settings = {"budget": budget, "stop_ratio": stop_ratio, "patience": patience, **chosen.settings}
    return dataclasses.replace(chosen, settings=settings)


def check_settings(budget: int, stop_ratio: float | None, patience: int) -> None:
    """Refuse values out of range."""
    if budget < 0:
        raise UsageError(f"budget {budget} is negative; give a number of pool rows")
    if stop_ratio is not None and not 0.0 <= stop_ratio < float("inf"):
        raise UsageError(f"stop ratio {stop_ratio} must be a number of 0 or more (the paper uses 0.95)")
    if patience < 0:
        raise UsageError(f"patience {patience} is negative; give the number of the reference round")


def _checked(similarity: npt.ArrayLike) -> npt.NDArray[np.floating[Any]]:
    matrix = np.asarray(similarity)
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiu":
        raise SimcoreError(f"similarity must be a matrix [num_clusters, num_pool], not {matrix.dtype} {matrix.shape}")
    if 0 in matrix.shape:
        raise SimcoreError(f"similarity is empty: {matrix.shape[0]} centroids and {matrix.shape[1]} pool rows")
    if matrix.dtype.kind != "f":
        return matrix.astype(np.float64)
    _refuse_not_finite(matrix)
    return matrix


def _refuse_not_finite(matrix: npt.NDArray[np.floating[Any]]) -> None:
    """Name the first pool rows and centroids with NaN or infinity; a row's sum tells in one pass whether to look."""

    def suspicious(cluster: int) -> bool:
        with np.errstate(all="ignore"):
            return not np.isfinite(matrix[cluster].sum())

    suspects = np.flatnonzero(list(threaded(suspicious, range(len(matrix)))))
    bad = [(int(q), np.flatnonzero(~np.isfinite(matrix[q]))) for q in suspects]
    bad = [(cluster, rows) for cluster, rows in bad if len(rows)]
    if bad:
        rows = np.unique(np.concatenate([rows for _, rows in bad]))
        raise SimcoreError(
            f"similarity holds NaN or infinity for {len(rows)} pool rows (first: {_first(rows)}) "
            f"in {len(bad)} centroids (first: {_first([cluster for cluster, _ in bad])}); leave those rows out"
        )


def _first(numbers: Any) -> str:
    return ", ".join(str(int(number)) for number in numbers[:5])


def clamp(budget: int, num_pool: int) -> int:
    """Limit a budget to the rows there are, and say so; say so too when nothing is wanted."""
    if budget == 0:
        warnings.warn("budget 0: no row is chosen", SimcoreWarning, stacklevel=3)
    if budget > num_pool:
        warnings.warn(
            f"budget {budget} is more than the {num_pool} pool rows there are; all {num_pool} may be chosen",
            SimcoreWarning,
            stacklevel=3,
        )
    return min(budget, num_pool)


class _Rounds(NamedTuple):
    """Some whole rounds: ``rows`` and ``values`` [num_rounds, num_clusters]; ``objective`` [num_rounds]."""

    rows: Rows
    values: npt.NDArray[np.float64]
    objective: npt.NDArray[np.float64]


def peel_scores(
    scores: Scores,
    budget: int,
    *,
    stop_ratio: float | None,
    patience: int,
    ending: str = "budget",
    barred: Mask | None = None,
) -> Selection:
    """Do what :func:`peel` says on any :class:`Scores`.

    ``budget`` must not be above the number of rows that are not ``barred`` [num_pool]; ``ending`` is the stop
    reason where the rule does not stop it.
    """
    num_clusters, num_pool = scores.shape
    rule = _StopRule(stop_ratio, patience)
    parts: list[Picks] = []
    num_rounds = num_chosen = 0
    queues = Queues(scores, budget, barred) if budget else None
    places = np.empty(num_pool, np.int64)  # where a row stands among the picks; made once, for its pages cost time
    while queues and num_chosen < budget and not rule.fired:
        rounds = rule.cut(_play(queues, -(-(budget - num_chosen) // num_clusters)))
        parts.append(_picks(rounds, num_rounds, places))
        num_rounds += len(rounds.rows)
        num_chosen += len(parts[-1].indices)
    return _selection(_join(parts), rule, budget, ending)


def _play(queues: Queues, num_rounds: int) -> _Rounds:
    """Play rounds without looking at budget or stop; ``num_rounds`` must not be able to empty the pool early."""
    rows, values = queues.play(min(num_rounds, MAX_ROUNDS_AT_ONCE))
    # Term by term in centroid order, each divided first, as the published code sums it.
    objective = np.cumsum(values / values.shape[1], axis=1)[:, -1]
    return _Rounds(rows, values, objective)


class _StopRule:
    """The published stop, fed with rounds in order."""

    def __init__(self, ratio: float | None, patience: int) -> None:
        self._ratio, self._patience = ratio, patience
        self.objective: list[float] = []
        self.threshold = 0.0
        self.fired: dict[str, float] = {}

    def cut(self, rounds: _Rounds) -> _Rounds:
        """Keep the rounds before the one that stops, and remember their objective."""
        for number, value in enumerate(rounds.objective.tolist()):
            if len(self.objective) + 1 == self._patience:
                self.threshold = value * (self._ratio or 0.0)
            if self._ratio is not None and value < self.threshold:
                self.fired = {"round": len(self.objective) + 1, "objective": value, "threshold": self.threshold}
                return _Rounds(rounds.rows[:number], rounds.values[:number], rounds.objective[:number])
            self.objective.append(value)
        return rounds


class Picks(NamedTuple):
    """Columns of a selection, in pick order."""

    indices: Rows
    rounds: npt.NDArray[np.int32]
    clusters: npt.NDArray[np.int32]
    similarities: npt.NDArray[np.floating[Any]]


def _picks(rounds: _Rounds, num_before: int, places: Rows) -> Picks:
    """Order the picks of some rounds, each row once with the centroid that it is most similar to.

    ``places`` [num_pool] is overwritten.
    """
    order = np.argsort(-rounds.values, axis=1)
    ranked = np.take_along_axis(rounds.values, order, axis=1)
    for tied in np.flatnonzero((ranked[:, 1:] == ranked[:, :-1]).any(axis=1)):
        order[tied] = np.lexsort((rounds.rows[tied], -rounds.values[tied]))  # stable: then in centroid order
    rows = np.take_along_axis(rounds.rows, order, axis=1).reshape(-1)
    place = np.arange(len(rows))
    places[rows[::-1]] = place[::-1]  # of equal rows the last written stays, which is the first here
    kept = np.flatnonzero(places[rows] == place)
    numbers = (kept // rounds.rows.shape[1] + num_before + 1).astype(np.int32)
    return Picks(rows[kept], numbers, order.reshape(-1)[kept].astype(np.int32), ranked.reshape(-1)[kept])


def ordered_picks(rows: Rows, numbers: Rows, clusters: Rows, values: npt.NDArray[np.floating[Any]]) -> Picks:
    """Sort picks by round, similarity descending, row; of a row picked twice in a round keep the first."""
    order = np.lexsort((rows, -values, numbers))  # stable: equal entries stay in centroid order
    _, first = np.unique(rows[order], return_index=True)
    kept = order[np.sort(first)]
    return Picks(rows[kept], numbers[kept].astype(np.int32), clusters[kept].astype(np.int32), values[kept])


def _join(parts: list[Picks]) -> Picks:
    if not parts:
        return Picks(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32))
    return Picks(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def warn_of_empty() -> None:
    """Say why a stop rule left nothing."""
    warnings.warn(
        "the coreset is empty: the similarities of the first round are negative, which stops the selection; "
        "give a budget without a stop ratio",
        SimcoreWarning,
        stacklevel=4,
    )


def _selection(picks: Picks, rule: _StopRule, wanted: int, reason: str) -> Selection:
    if rule.fired and not len(picks.indices):
        warn_of_empty()
    whole = Selection(
        indices=picks.indices,
        rounds=picks.rounds,
        clusters=picks.clusters,
        similarities=picks.similarities.astype(np.float32),
        stop_reason="stop" if rule.fired else reason,
        objective=tuple(rule.objective),
        settings={"stop": rule.fired} if rule.fired else {},
    )
    return dataclasses.replace(whole.prefix(wanted), stop_reason=whole.stop_reason)
