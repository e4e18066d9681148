"""Segmentation as a problem for the loop: its scenes and model, how masks are judged, and what is left of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from PIL import Image

from simcore.artifacts.files import write_json, written_aside
from simcore.embedding.preprocess import proportional_resize
from simcore.images import ImageSource
from simcore.images.mask_classes import MaskClasses
from simcore.images.mask_colours import colour_table
from simcore.images.masks import mask_uri
from simcore.tasks._scene_task import SceneProblem, example_of
from simcore.tasks._segmentation_scenes import MaskedSets, MaskScenes, WholeScene
from simcore.tasks._segmentation_score import Counts, confusion, figures, ious
from simcore.tasks._segmenter import Segmenter
from simcore.training.gather import sum_over_processes


class SegmentationProblem(SceneProblem):
    """Images with masks. The answers to them are written as they come, and counted; none is kept in memory."""

    kind = "segmenter"
    model: Segmenter
    min_batch = 2  # batch normalisation of a map of one cell

    def __init__(self, sets: MaskedSets, model: Segmenter, facts: Mapping[str, Any]) -> None:
        self.sets, self.model = sets, model
        self.facts = {"classes": list(sets.classes), **facts}
        self.train = self._scenes(sets.train, sets.train_code)
        self.test = self._scenes(sets.test, sets.test_code)
        self._counts = np.zeros((len(sets.classes),) * 2, np.int64)

    def _scenes(self, source: ImageSource, code: MaskClasses) -> MaskScenes:
        side = self.facts["crop_size"]
        return MaskScenes(
            source=source,
            code=code,
            numbers=self.sets.numbers(code),
            short_side=side,
            base_size=proportional_resize(side),
        )

    def answer(self, scenes: Sequence[WholeScene], out: Path | None) -> Iterator[None]:
        """Segment, count and leave the masks."""
        for scene, found in zip(scenes, self.model.segment(scenes), strict=True):
            self._counts += confusion(scene.mask, found, len(self.sets.classes))
            if out is not None:
                write_mask(mask_path(out, scene.row), found)
            yield None

    def judge(self, answers: Mapping[int, None], fabric: Fabric) -> tuple[dict[str, float], dict[str, Any]]:
        """Give the figures of the confusion matrix of all test pixels."""
        shared = torch.from_numpy(self._counts).to(fabric.device)
        counts = sum_over_processes(shared).cpu().numpy()
        return figures(counts, self.sets.classes), _described(self.sets, counts)

    def write(self, answers: Mapping[int, None], out: Path) -> None:
        """Leave the list of the masks that lie there already."""
        write_index(out, self.test.source, self.sets.classes, answers)

    def example(self, row: int, answer: None, out: Path | None) -> dict[str, Any] | None:
        """Say where both masks lie and what their values mean."""
        if out is None:
            return None
        code = self.sets.test_code
        return {
            **example_of(self.test.source, row),
            "truth": mask_uri(self.test.source, row),
            "found": str(mask_path(out, row).resolve()),
            "code": {"names": list(code.names), "texts": _texts(code), "classes": list(self.sets.classes)},
        }


def _texts(code: MaskClasses) -> list[str]:
    """Write the code as ``MaskClasses.parse`` reads it."""
    values = [f"{code.names[number]}={low}-{high}" for low, high, number in code.ranges]
    return values + [f"{code.names[number]}=#{colour:06x}" for colour, number in code.colours]


def _described(sets: MaskedSets, counts: Counts) -> dict[str, Any]:
    each = ious(counts).tolist()
    return {
        "classes": list(sets.classes),
        "num_train": len(sets.train),
        "num_test": len(sets.test),
        "num_pixels": int(counts.sum()),
        "iou_per_class": {name: 100.0 * iou for name, iou in zip(sets.classes, each, strict=True) if iou == iou},
        "absent_classes": [name for name, there in zip(sets.classes, counts.sum(1).tolist(), strict=True) if not there],
        "confusion": counts.tolist(),
    }


def mask_path(out: Path, row: int) -> Path:
    """Say where the mask of a row lies: by number, since the ids of rows may be no names of files."""
    return out / "masks" / f"{row:06d}.png"


def write_mask(path: Path, classes: npt.NDArray[np.uint8]) -> None:
    """Write class numbers, uint8 [H, W], as a PNG whose palette shows them in colours."""
    picture = Image.fromarray(classes)
    picture.putpalette(colour_table().tobytes())  # makes a grey picture one of indices, with the same values
    with written_aside(path) as aside:
        picture.save(aside, "PNG")


def write_index(out: Path, source: ImageSource, classes: Sequence[str], rows: Iterable[int]) -> None:
    """Leave ``predictions.json``: the classes by number, and each image's id with its mask."""
    ids = source.table["id"].to_pylist()
    files = [{"id": ids[row], "mask": f"masks/{mask_path(out, row).name}"} for row in rows]
    write_json(out / "predictions.json", {"classes": list(classes), "images": files})
