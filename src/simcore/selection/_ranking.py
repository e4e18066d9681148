"""From scores of pool rows to an order of picks, with or without turns between groups."""

from __future__ import annotations

import numpy as np

from simcore.artifacts import Selection
from simcore.selection._base import Job, selection
from simcore.selection._features import Float32, Float64, Rows

QUOTAS = ("none", "cluster", "x")


def by_score(scores: Float64) -> Rows:
    """Order the rows with a finite score: highest first, then lower row."""
    rows = np.flatnonzero(np.isfinite(scores))
    order: Rows = rows[np.argsort(-scores[rows], kind="stable")]
    return order


def in_turns(order: Rows, groups: Rows, weights: Float64) -> Rows:
    """Let groups pick in turn, each as often as its weight says, so that none is starved.

    The j-th row of a group (from 0) has its turn at time (j + 1/2) / weight; turns at one time go by ``order``. A
    group that runs out leaves its turns to the others. The first n turns do not depend on how many follow.

    Args:
        order: rows, best first [n].
        groups: the group of every pool row [num_pool].
        weights: positive weight of each group [num_groups].
    """
    mine = groups[order]
    grouped = np.argsort(mine, kind="stable")
    counts = np.bincount(mine, minlength=len(weights))
    turn = np.empty(len(order))
    turn[grouped] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return order[np.argsort((turn + 0.5) / weights[mine], kind="stable")]


def from_order(
    order: Rows, job: Job, *, clusters: Rows, similarities: Float32, objective: Float64, limit: int | None = None
) -> Selection:
    """Cut an order of rows to the budget; the arrays are of all pool rows.

    ``objective`` holds what the selector maximises the sum of; the mean over the picks is reported. ``limit`` is
    the number of rows after which a stopping rule ends the order; it serves as the budget where none is given.
    """
    budget = job.budget(limit)
    picks = order[:budget]
    return selection(
        picks,
        stop_reason="stop" if limit is not None and (job.asked is None or limit < budget) else job.ending,
        clusters=clusters[picks].astype(np.int32),
        similarities=similarities[picks],
        objective=(float(objective[picks].mean()),) if len(picks) else (),
    )
