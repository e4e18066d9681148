"""Which rows keep their label: label budgets, and the split that settings are chosen on.

Every draw is a function of (labels, share, seed): one seed gives one set, whatever else runs.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from simcore.errors import SimcoreError, UsageError

Rows = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int64]


def label_budget(labels: Labels, ratio: float, *, seed: int) -> Rows:
    """Choose the rows that keep their label: of each class the rounded share (halves up), but at least one.

    The order within a class is drawn once a seed, so a smaller ratio's rows are among a larger one's.

    Args:
        labels: class of each row, int64 [n]; rows with -1 are never chosen.
        ratio: share in (0, 1].

    Returns:
        Ascending rows, int64.
    """
    _check(ratio)
    chosen = [order[: max(1, _rounded(ratio * len(order)))] for order in _shuffled_classes(labels, seed, b"budget")]
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)


def plain_label_budget(labels: Labels, ratio: float, *, seed: int) -> Rows:
    """Choose int(ratio · n) of the n labelled rows as the published code does: regardless of class.

    Classes may end up without any label, and a smaller ratio's rows are not among a larger one's.
    """
    _check(ratio)
    labelled = np.flatnonzero(labels >= 0)
    count = int(ratio * len(labelled))
    if not count:
        raise SimcoreError(f"a plain label ratio of {ratio:g} leaves no label among {len(labelled)} images")
    return np.sort(labelled[random.Random(seed).sample(range(len(labelled)), count)])


def held_out_split(labels: Labels, share: float, *, seed: int) -> tuple[Rows, Rows]:
    """Split labelled rows into (kept, held out): of each class the rounded share is held out.

    A class of two or more gives at least one to either side; a class of one is kept.
    """
    kept, held = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for order in _shuffled_classes(labels, seed, b"holdout"):
        count = min(len(order) - 1, max(1, _rounded(share * len(order)))) if share > 0 else 0
        held.append(order[:count])
        kept.append(order[count:])
    return np.sort(np.concatenate(kept)), np.sort(np.concatenate(held))


def _check(ratio: float) -> None:
    if not 0 < ratio <= 1:
        raise UsageError(f"label_ratio must be above 0 and at most 1, not {ratio:g}")


def _rounded(share: float) -> int:
    # The small term keeps 0.35 · 10 = 3.4999… a half.
    return math.floor(share + 0.5 + 1e-9)


def _shuffled_classes(labels: Labels, seed: int, purpose: bytes) -> Iterator[Rows]:
    """Yield the rows of each class in an order drawn from (seed, purpose, class)."""
    for label in np.unique(labels[labels >= 0]).tolist():
        generator = np.random.default_rng([seed, label, *purpose])
        yield generator.permutation(np.flatnonzero(labels == label)).astype(np.int64)
