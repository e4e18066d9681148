"""Near-duplicates out of a coreset, and of what it must not contain; the room they leave is filled again.

As in SemDeDup (Abbas et al., 2023, arXiv 2303.09540), two images are near-duplicates where the cosine of their
features is at least a threshold; of each set of them the first picked stays.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence

import numpy as np

from simcore.artifacts import Embeddings, Selection
from simcore.errors import SimcoreError, SimcoreWarning, UsageError
from simcore.selection._features import Features, Float32, Float64, Mask, Rows
from simcore.selection._space import Space
from simcore.selection._threads import threaded

_BLOCK = 512


def deduplicate(
    choose: Callable[[int | str | None], Selection],
    pool: Embeddings,
    *,
    budget: int | None,
    threshold: float,
    against: Sequence[Embeddings] = (),
) -> Selection:
    """Drop picks too near an earlier pick or a row of ``against``, and ask for more until ``budget`` are left.

    Args:
        choose: gives the selection for a budget; a smaller budget must be a prefix of a larger one.
        pool: what was chosen from.
        budget: rows wanted; None only drops.
        threshold: the cosine from which two rows are near-duplicates, above 0 and at most 1.
        against: the target and whatever else must not leak into the coreset, such as a test set.

    Returns:
        The selection, with ``num_duplicates`` and ``num_leaks`` (dropped for ``against``) in its settings.
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"the cosine of near-duplicates must lie above 0 and be at most 1, not {threshold}")
    for other in against:
        if other.dim != pool.dim:
            raise SimcoreError(f"features to keep out have {other.dim} numbers a row, pool features {pool.dim}")
    sieve = _Sieve(pool, against, threshold)
    asked = None if budget is None else min(len(pool), budget + max(64, budget // 4))
    while True:
        chosen = _quietly(choose, asked, budget)
        kept = sieve.sift(chosen.indices)
        if budget is None or asked is None or kept.sum() >= budget or asked >= len(pool) or len(chosen) < asked:
            return _rest(chosen, kept, sieve, budget, threshold)
        asked = min(len(pool), 2 * asked)


def _quietly(choose: Callable[[int | str | None], Selection], asked: int | None, budget: int | None) -> Selection:
    """Choose, without the word on a budget that only this module asked for."""
    with warnings.catch_warnings():
        if asked != budget:
            warnings.filterwarnings("ignore", message="budget", category=SimcoreWarning)
        return choose(asked)


def _rest(chosen: Selection, kept: Mask, sieve: _Sieve, budget: int | None, threshold: float) -> Selection:
    """Keep the picks that passed, and count the others that come before the last of them."""
    places = np.flatnonzero(kept)[:budget]
    if budget is not None and len(places) < budget:
        warnings.warn(
            f"budget {budget} is more than the {len(places)} pool rows left without near-duplicates",
            SimcoreWarning,
            stacklevel=3,
        )
    before = slice(0, len(chosen) if budget is None or len(places) < budget else int(places[-1]) + 1 if budget else 0)
    leaks = int(sieve.leaks(chosen.indices[before]).sum())
    dropped = int((~kept[before]).sum())
    settings = {
        **chosen.settings,
        "budget": budget,
        "deduplicate": threshold,
        "num_duplicates": dropped - leaks,
        "num_leaks": leaks,
    }
    reason = chosen.stop_reason
    if budget is not None:
        reason = "budget" if len(places) == budget else "exhausted" if reason == "budget" else reason
    return dataclasses.replace(_at(chosen, places), stop_reason=reason, settings=settings)


def _at(chosen: Selection, places: Rows) -> Selection:
    return dataclasses.replace(
        chosen,
        indices=chosen.indices[places],
        rounds=chosen.rounds[places],
        clusters=chosen.clusters[places],
        similarities=chosen.similarities[places],
        ids=tuple(chosen.ids[place] for place in places) if chosen.ids else (),
        uris=tuple(chosen.uris[place] for place in places) if chosen.uris else (),
        labels=None if chosen.labels is None else chosen.labels[places],
    )


class _Sieve:
    """Remembers what was let through, so that a longer list of picks is looked at only where it is new."""

    def __init__(self, pool: Embeddings, against: Sequence[Embeddings], threshold: float) -> None:
        self._space, self._pool, self._threshold = Space(), Features(pool), threshold
        self._barring = [self._rows_of(Features(other)) for other in against]
        self._kept: list[Float32] = []
        self._verdicts = np.zeros(0, np.bool_)
        self._leaks: dict[int, bool] = {}

    def _rows_of(self, features: Features) -> Float32:
        return self._space.take(features, np.flatnonzero(features.valid))

    def leaks(self, indices: Rows) -> Mask:
        """Tell which picks were dropped for a row that must not leak."""
        return np.array([self._leaks[int(row)] for row in indices], np.bool_)

    def sift(self, indices: Rows) -> Mask:
        """Tell which picks, in order, are near no earlier pick that was kept and no barred row."""
        for start in range(len(self._verdicts), len(indices), _BLOCK):
            self._verdicts = np.append(self._verdicts, self._sift_block(indices[start : start + _BLOCK]))
        return self._verdicts[: len(indices)]

    def _sift_block(self, indices: Rows) -> Mask:
        rows = self._space.take(self._pool, indices)
        leaks = self._near_any(rows, self._barring)
        self._leaks.update(zip(indices.tolist(), leaks.tolist(), strict=True))
        kept = ~(leaks | self._near_any(rows, self._kept))
        alike = _cosines(rows, rows) >= self._threshold
        for place in np.flatnonzero(kept):
            kept[place] = not (alike[place, :place] & kept[:place]).any()
        self._kept.append(rows[kept])
        return kept

    def _near_any(self, rows: Float32, others: list[Float32]) -> Mask:
        near = np.zeros(len(rows), np.bool_)
        pieces = [other[start : start + 8192] for other in others for start in range(0, len(other), 8192)]
        for found in threaded(lambda piece: (_cosines(rows, piece) >= self._threshold).any(axis=1), pieces):
            near |= found
        return near


def _cosines(rows: Float32, others: Float32) -> Float64:
    """Give cosines of grid rows: exact products, divided by lengths, so that equal rows have a cosine of just 1."""
    squares, other_squares = (np.einsum("ij,ij->i", part, part, dtype=np.float64) for part in (rows, others))
    lengths = np.sqrt(squares[:, None] * other_squares[None, :])
    cosines: Float64 = (rows @ others.T) / np.maximum(lengths, 1.0)
    return cosines
