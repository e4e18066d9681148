"""Average precision of found boxes, and boxes as COCO JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from simcore.artifacts.files import write_json
from simcore.errors import SimcoreError
from simcore.images import ImageSource
from simcore.images.boxes import Boxes
from simcore.images.coco_json import IMAGE_ID
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


def image_ids(source: ImageSource) -> list[int]:
    """Give the number of each image: that of its COCO file, or else its place counted from 1."""
    if IMAGE_ID in source.listing.column_names and not source.listing[IMAGE_ID].null_count:
        return [int(number) for number in source.listing[IMAGE_ID].to_pylist()]
    return list(range(1, len(source) + 1))


def category_ids(source: ImageSource, classes: Sequence[str]) -> list[int]:
    """Give the number of each class: that of its COCO file, or else its place counted from 1."""
    number = dict(zip(source.classes, source.category_ids, strict=False))
    known = [number.get(name) for name in classes]
    return [n for n in known if n is not None] if None not in known else list(range(1, len(classes) + 1))


def write_coco(
    out: Path, source: ImageSource, classes: Sequence[str], categories: Sequence[int], found: Sequence[Found],
    truth: Sequence[Boxes], sizes: Sequence[tuple[int, int]],
) -> None:  # fmt: skip
    """Leave ``predictions.json`` (COCO results) and ``truth.json`` (COCO annotations of the images measured on)."""
    ids, names = image_ids(source), source.table["id"].to_pylist()
    predictions = [
        {"image_id": ids[one.row], "category_id": categories[label], "bbox": _sides(edges), "score": round(score, 6)}
        for one in found
        for edges, label, score in zip(
            one.boxes.edges.tolist(), one.boxes.labels.tolist(), one.scores.tolist(), strict=True
        )
    ]
    images = [
        {"id": ids[one.row], "file_name": names[one.row], "width": width, "height": height}
        for one, (width, height) in zip(found, sizes, strict=True)
    ]
    content = {
        "images": images,
        "categories": [{"id": number, "name": name} for number, name in zip(categories, classes, strict=True)],
        "annotations": _annotations(found, truth, ids, categories),
    }
    write_json(out / "predictions.json", predictions)
    write_json(out / "truth.json", content)


def _annotations(
    found: Sequence[Found], truth: Sequence[Boxes], ids: Sequence[int], categories: Sequence[int]
) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = []
    for one, true in zip(found, truth, strict=True):
        for edges, label, crowd in zip(true.edges.tolist(), true.labels.tolist(), true.crowd.tolist(), strict=True):
            sides = _sides(edges)
            listed.append(
                {
                    "id": len(listed) + 1,
                    "image_id": ids[one.row],
                    "category_id": categories[label],
                    "bbox": sides,
                    "area": sides[2] * sides[3],
                    "iscrowd": int(crowd),
                }
            )
    return listed


def _sides(edges: Sequence[float]) -> list[float]:
    """Turn left, top, right, bottom into left, top, width, height."""
    left, top, right, bottom = edges
    return [round(value, 6) for value in (left, top, right - left, bottom - top)]
