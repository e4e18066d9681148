"""Ensembles: one selector on the features of several encoders, their rankings averaged."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from simcore.artifacts import Embeddings, Selection
from simcore.errors import SimcoreError, SimcoreWarning, UsageError
from simcore.selection._base import Job, Selector, complete, selection
from simcore.selection._features import Float64, Rows
from simcore.selection._peel import clamp

RANKED_BUDGETS = 20


def ensemble(
    selector: Selector,
    stores: Sequence[tuple[Embeddings, Embeddings]],
    budget: int | str | None,
    *,
    engine: str = "local",
    ray_address: str | None = None,
) -> Selection:
    """Select on each (target, pool) pair and order pool rows by the mean of their ranks (Borda's count).

    All pools hold the same images in the same order, each embedded by another encoder. Rankings go down to 20
    budgets, rounded up to a power of two; a row below that counts as the next rank. A row that is invalid in one
    pool is left out. ``clusters`` and ``similarities`` are those that the first pair gives, where it ranks the row.

    ``engine`` goes to :meth:`Selector.select`.

    Raises:
        UsageError: no budget.
        SimcoreError: pools of other rows.
    """
    jobs = [Job(target, pool, budget) for target, pool in stores]
    first = jobs[0]
    if first.asked is None:
        raise UsageError("an ensemble needs a budget: a number of pool rows, or a share such as '5%'")
    for number, job in enumerate(jobs[1:], start=2):
        _refuse_other_rows(first.pool_embeddings, job.pool_embeddings, number)
    valid = np.logical_and.reduce([job.pool.valid for job in jobs])
    num_valid = int(np.count_nonzero(valid))
    wanted = clamp(first.asked, num_valid)
    depth = min(len(valid), 1 << (RANKED_BUDGETS * max(1, wanted) - 1).bit_length())
    where = {"engine": engine, "ray_address": ray_address}
    rankings = [_ranking(selector, target, pool, depth, where) for target, pool in stores]
    ranks = np.mean([_ranks(ranking.indices, len(valid), depth) for ranking in rankings], axis=0)
    rows = np.flatnonzero(valid)
    picks = rows[np.argsort(ranks[rows], kind="stable")][:wanted]
    chosen = selection(
        picks,
        stop_reason="exhausted" if first.asked > num_valid else "budget",
        objective=(float(ranks[picks].mean()),) if len(picks) else (),
        settings={**rankings[0].settings, "budget": budget, "num_stores": len(stores), "ranked": depth},
        **_columns(picks, rankings[0]),
    )
    named = complete(chosen, first)
    parents = dict(named.parents)
    for number, (target, pool) in enumerate(stores[1:], start=2):
        parents |= {f"target_{number}": target.fingerprint, f"pool_{number}": pool.fingerprint}
    return dataclasses.replace(named, num_invalid=len(valid) - num_valid, parents=parents)


def _refuse_other_rows(first: Embeddings, other: Embeddings, number: int) -> None:
    if len(first) != len(other) or not first.table["id"].equals(other.table["id"]):
        raise SimcoreError(
            f"pool {number} of the ensemble holds other images than the first ({len(other)} rows and {len(first)}); "
            "embed the same source with each encoder"
        )


def _ranking(
    selector: Selector, target: Embeddings, pool: Embeddings, depth: int, where: Mapping[str, Any]
) -> Selection:
    """Rank with one encoder; a budget above the valid rows is this module's doing, not the user's."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="budget", category=SimcoreWarning)
        return selector.select(target, pool, budget=depth, **where)


def _ranks(indices: Rows, num_pool: int, depth: int) -> Float64:
    ranks = np.full(num_pool, float(depth))
    ranks[indices] = np.arange(len(indices))
    return ranks


def _columns(picks: Rows, ranking: Selection) -> dict[str, npt.NDArray[Any]]:
    """Look up each pick's cluster and similarity in a ranking; -1 and NaN where it is not ranked."""
    order = np.argsort(ranking.indices)
    place = np.searchsorted(ranking.indices[order], picks)
    found = order[np.minimum(place, len(order) - 1)] if len(order) else np.zeros(len(picks), np.int64)
    known = ranking.indices[found] == picks if len(order) else np.zeros(len(picks), np.bool_)
    clusters, similarities = np.full(len(picks), -1, np.int32), np.full(len(picks), np.nan, np.float32)
    clusters[known] = ranking.clusters[found[known]]
    similarities[known] = ranking.similarities[found[known]]
    return {"clusters": clusters, "similarities": similarities}
