"""Average precision of found boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from simcore.errors import SimcoreError
from simcore.images.boxes import Boxes
from simcore.tasks._detector import Found

FIGURES = {"mean_ap": "map", "mean_ap50": "map_50", "mean_ap75": "map_75", "mean_recall": "mar_100"}
NEEDS_EXTRA = "detection is measured by faster-coco-eval: pip install 'simcore[detection]'"


def need_scorer() -> None:
    """Refuse to start where what is needed at the end is not installed."""
    try:
        import faster_coco_eval  # noqa: F401
    except ImportError as error:
        raise SimcoreError(NEEDS_EXTRA) from error


def average_precision(
    found: Sequence[Found], truth: Sequence[Boxes], classes: Sequence[str]
) -> tuple[dict[str, float], dict[str, float]]:
    """Score boxes as COCO does: average precision over IoU .50:.05:.95, 101 points, at most 100 boxes an image.

    Args:
        found, truth: of the same images in the same order; what touches a crowd alone counts neither way.

    Returns:
        The figures in percent, and the average precision of each class that the truth has.
    """
    from torchmetrics.detection import MeanAveragePrecision

    need_scorer()
    metric = MeanAveragePrecision(
        iou_thresholds=np.linspace(0.5, 0.95, 10).tolist(),
        rec_thresholds=np.linspace(0.0, 1.0, 101).tolist(),  # its own are in single precision and miss a recall of 0.6
        class_metrics=True,
        backend="faster_coco_eval",
        sync_on_compute=False,  # every process has all boxes already
    )
    metric.warn_on_many_detections = False
    for one, true in zip(found, truth, strict=True):
        target = {**_tensors(true), "iscrowd": torch.from_numpy(true.crowd).long()}
        metric.update([{**_tensors(one.boxes), "scores": torch.from_numpy(one.scores)}], [target])
    scores = metric.compute()
    figures = {name: 100.0 * max(0.0, float(scores[key])) for name, key in FIGURES.items()}
    known = scores["classes"].reshape(-1).tolist()
    each = scores["map_per_class"].reshape(-1).tolist()
    return figures, {classes[c]: 100.0 * ap for c, ap in zip(known, each, strict=True) if ap >= 0}


def _tensors(boxes: Boxes) -> dict[str, Tensor]:
    return {"boxes": torch.from_numpy(boxes.edges).float(), "labels": torch.from_numpy(boxes.labels)}
