"""Figures of a segmentation, all from one confusion matrix of pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
BACKGROUND = ("background", "0")  # names under which a class is no thing


def confusion(truth: npt.NDArray[np.uint8], found: npt.NDArray[np.uint8], num_classes: int) -> Counts:
    """Count pixels by true class (row) and found class (column), [num_classes, num_classes].

    A pixel whose true value is no class (255) counts nowhere.
    """
    known = truth < num_classes
    pairs = truth[known].astype(np.int64) * num_classes + found[known]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.int64)


def ious(counts: Counts) -> npt.NDArray[np.float64]:
    """Give intersection over union of each class, [num_classes]; NaN for one neither there nor found."""
    right = np.diag(counts).astype(np.float64)
    union = counts.sum(0) + counts.sum(1) - right
    return np.asarray(np.divide(right, union, out=np.full(len(right), np.nan), where=union > 0), np.float64)


def figures(counts: Counts, classes: Sequence[str]) -> dict[str, float]:
    """Give the figures in percent; means run over the classes that occur, all are 0 where no pixel counts.

    ``counts`` are those of :func:`confusion`.
    ``foreground_iou`` is the mean over all classes but the background, where one is called so (or 0).
    """
    right, total = np.diag(counts).astype(np.float64), counts.sum()
    each, truth = ious(counts), counts.sum(1)
    of_class = np.divide(right, truth, out=np.full(len(right), np.nan), where=truth > 0)
    there = np.nan_to_num(each) * truth
    values = {
        "miou": _mean(each),
        "pixel_accuracy": right.sum() / max(1, total),
        "mean_class_accuracy": _mean(of_class),
        "frequency_weighted_iou": there.sum() / max(1, total),
    }
    front = [number for number, name in enumerate(classes) if name not in BACKGROUND]
    if 0 < len(front) < len(classes):
        values["foreground_iou"] = _mean(each[front])
    return {name: 100.0 * float(value) for name, value in values.items()}


def _mean(values: npt.NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else 0.0
