"""Wrong labels put in on purpose, so that robustness against them can be measured, and how well they are found."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from simcore.errors import UsageError
from simcore.tasks._labels import Labels


def symmetric_noise(labels: Labels, rate: float, *, num_classes: int, generator: np.random.Generator) -> Labels:
    """Give the rounded share ``rate`` of the labels another class, each of the others being as likely.

    It is the "symmetry flipping" of Han et al. 2018 (Co-teaching, section 4), with an exact number of wrong labels.

    Args:
        labels: int64 [n], in 0 … num_classes - 1.
        rate: in [0, 1).
        generator: draws which rows, then by how much each label moves on.

    Returns:
        A new array; as many labels differ as the rate says.
    """
    if not 0 <= rate < 1:
        raise UsageError(f"label noise is {rate:g}, but must be from 0 to below 1")
    num = round(rate * len(labels))
    if num and num_classes < 2:
        raise UsageError("label noise needs at least two classes")
    noisy = labels.copy()
    if num:
        rows = generator.choice(len(labels), num, replace=False)
        noisy[rows] = (labels[rows] + generator.integers(1, num_classes, num)) % num_classes
    return noisy


def found_clean(held_clean: npt.NDArray[np.bool_], is_true: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Say how well the rows held for clean, bool [n], are those whose label is true, in percent.

    ``precision`` is the share of true labels among them ("label precision" of Han et al. 2018), ``recall`` the share
    of the true labels that is among them; a share of nothing is 0.
    """
    both = int((held_clean & is_true).sum())
    return {
        "precision": 100.0 * both / max(1, int(held_clean.sum())),
        "recall": 100.0 * both / max(1, int(is_true.sum())),
    }
