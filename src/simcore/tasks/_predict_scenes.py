"""Use a trained detector or segmenter: images to one COCO JSON file of boxes, or to a folder of masks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from simcore.embedding._compute import PRECISIONS, check_batching
from simcore.embedding.load import pick_device
from simcore.errors import UsageError
from simcore.images import ImageSource
from simcore.images.whole_folder import whole_folder
from simcore.progress import Progress
from simcore.tasks._coco_form import CocoForm, Written, write_found
from simcore.tasks._scenes import AT_ONCE
from simcore.tasks._segmentation_problem import mask_path, write_index, write_mask
from simcore.tasks._trained import Trained
from simcore.tasks.detection import load_detector
from simcore.tasks.segmentation import load_segmenter

ENDINGS = (".json", ".csv", ".parquet")


def predict_scenes(
    file: Path,
    kind: str,
    images: ImageSource,
    out: str | os.PathLike[str],
    *,
    batch_size: int = AT_ONCE,
    num_workers: int | None = None,
    device: str = "auto",
    precision: str = "32",
    quiet: bool = False,
) -> Written:
    """Look at every readable image with the detector or segmenter (``kind``) of ``file``; count what was written.

    A detector leaves one ``.json`` file: images, categories, and boxes with scores, in pixels of the images as they
    are. A segmenter leaves a new folder: ``masks/NNNNNN.png`` of the images' own size, numbered by row, and
    ``predictions.json`` with the names of the classes and the id of each mask's image. Either is whole or absent.
    """
    check_batching(batch_size, num_workers, precision)
    low, place = PRECISIONS[precision], pick_device(device)
    options = {"batch_size": batch_size, "num_workers": num_workers}
    write = _write_boxes if kind == "detector" else _write_masks
    with (
        torch.autocast(place.type, dtype=low, enabled=low is not None),
        Progress(f"ask the {kind}", total=len(images), quiet=quiet) as progress,
    ):
        return write(file, images, Path(out), place, progress, options)


def _write_boxes(
    file: Path, images: ImageSource, out: Path, place: torch.device, progress: Progress, options: dict[str, Any]
) -> Written:
    if out.suffix.lower() != ".json":
        raise UsageError(f"{out}: the boxes of a detector are written as .json")
    detector = load_detector(file)
    form = CocoForm.of(images, detector.classes, detector.facts["category_ids"])
    return write_found(out, form, (found for _, found in _told(detector, images, place, progress, options)))


def _write_masks(
    file: Path, images: ImageSource, out: Path, place: torch.device, progress: Progress, options: dict[str, Any]
) -> Written:
    if out.suffix.lower() in ENDINGS:
        raise UsageError(f"{out}: the masks of a segmenter are written into a folder, not a {out.suffix} file")
    segmenter, rows = load_segmenter(file), []
    with whole_folder(out) as folder:
        for scene, classes in _told(segmenter, images, place, progress, options):
            write_mask(mask_path(folder, scene.row), classes)
            rows.append(scene.row)
        write_index(folder, images, segmenter.classes, rows)
    return Written(num_images=len(rows))


def _told(
    trained: Trained[Any, Any], images: ImageSource, place: torch.device, progress: Progress, options: dict[str, Any]
) -> Iterator[Any]:
    """Ask about all images, telling how far it got."""
    trained.model.to(place)
    for answer in trained(images, **options):
        yield answer
        progress.advance()
