"""Detection: RetinaNet on a pretrained backbone, trained on images with boxes and scored by average precision."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simcore.artifacts import Embeddings, Report
from simcore.embedding import Encoder
from simcore.errors import SimcoreError, UsageError
from simcore.images import ImageSource
from simcore.images.boxes import Boxes
from simcore.progress import Progress
from simcore.settings import setting
from simcore.tasks._detection_scenes import BoxedSets, BoxScenes, WholeScene, boxed_sets
from simcore.tasks._detection_score import average_precision, category_ids, need_scorer, write_coco
from simcore.tasks._detector import Detector, Found, Suppression
from simcore.tasks._scene_task import SceneTask, example_of, gathered
from simcore.tasks._scenes import in_order
from simcore.tasks._trained import rebuilt, save_trained
from simcore.tasks._tuned import check_inputs
from simcore.training import make_fabric

__all__ = ["Detection", "TrainedDetector", "load_detector"]

FILE_NAME = "detector.safetensors"
NUM_EXAMPLES, EXAMPLE_BOXES, EXAMPLE_SCORE = 12, 20, 0.3
AT_ONCE = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Detection(SceneTask):
    """Train a detector on a frozen backbone and measure it by COCO's average precision.

    Recipe: RetinaNet with a feature pyramid, images of 200 to 333 pixels, crops that keep every box and flips, Adam
    with 1e-4 and weight decay 5e-4 along a cosine, 100 epochs of 16 images, and suppression over an IoU of 0.2
    whatever the classes (Kim et al. 2023, Table 7c and its code). Sources: COCO ``.json``, VOC XML, lists with a column
    ``boxes``, and prepared sets with boxes. Leaves ``predictions.json`` and ``truth.json`` in COCO's form, with the
    ids of the source where it has any.
    """

    min_size: int = setting(200, "short side of the resized images in pixels")
    max_size: int = setting(333, "what their long side may be at most")
    anchor_size: int = setting(32, "side of the smallest anchor in pixels; each level doubles it")
    nms_iou: float = setting(0.2, "overlap (IoU) above which only the better of two boxes stays")
    nms_across_classes: bool = setting(True, "also between boxes of different classes")
    min_score: float = setting(0.05, "score below which a box does not count as found")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.min_size <= self.max_size:
            raise UsageError(f"--min-size {self.min_size} must be from 1 to --max-size {self.max_size}")
        if self.anchor_size < 1 or not 0 < self.nms_iou <= 1 or not 0 <= self.min_score < 1:
            raise UsageError("--anchor-size must be at least 1, --nms-iou in (0, 1] and --min-score in [0, 1)")

    @property
    def suppression(self) -> Suppression:
        """Which boxes stay."""
        return Suppression(iou=self.nms_iou, across_classes=self.nms_across_classes, min_score=self.min_score)

    def evaluate(
        self,
        encoder: Encoder | None,
        train: ImageSource | Embeddings,
        test: ImageSource | Embeddings,
        *,
        out: Path | None,
        quiet: bool,
    ) -> Report:
        """Train, detect and score; ``out`` gets the detector and its boxes."""
        need_scorer()
        encoder, train, test = check_inputs(self, encoder, train, test, out)
        sets = boxed_sets(train, test)
        parents = {"encoder": encoder.fingerprint, "train": train.fingerprint, "test": test.fingerprint}
        fabric = make_fabric(self.device, self.precision)
        model = Detector(
            encoder,
            num_classes=len(sets.matched.classes),
            anchor_size=self.anchor_size,
            backbone_lr_scale=self.backbone_lr_scale,
            seed=self.seed,
        )
        num_unreadable = self.train_on(
            model,
            self._scenes(sets, sets.train),
            fabric,
            parents=parents,
            out=out,
            label="detection",
            min_batch=1,
            quiet=quiet,
        )
        measured = self._detect(model, sets, fabric, quiet)
        metrics, per_class = average_precision(measured.found, measured.truth, sets.matched.classes)
        facts = {
            "classes": list(sets.matched.classes),
            "category_ids": category_ids(train, sets.matched.classes),
            **{name: getattr(self, name) for name in BUILT_BY},
        }
        place = out if fabric.is_global_zero else None
        head = save_trained(place and place / FILE_NAME, model.network, "detector", encoder, facts)
        if place is not None:
            measured.write(place, sets.test, sets.matched.classes, facts["category_ids"])
        details = {
            **sets.details(),
            "num_train_skipped": num_unreadable,
            "num_test_skipped": len(sets.test) - len(measured.found),
            "ap_per_class": per_class,
            "examples": measured.examples(sets.test, sets.matched.classes),
        }
        return self.report(metrics, details, {**parents, "head": head})

    def _scenes(self, sets: BoxedSets, source: ImageSource) -> BoxScenes:
        return BoxScenes(source=source, numbers=sets.numbers(source), min_size=self.min_size, max_size=self.max_size)

    def _detect(self, model: Detector, sets: BoxedSets, fabric: Any, quiet: bool) -> Measured:
        model.eval()
        scenes = self._scenes(sets, sets.test)
        silent = quiet or not fabric.is_global_zero
        results = []
        with Progress("detect", total=len(sets.test), quiet=silent) as progress:
            for piece in in_order(scenes, fabric, num_workers=self.num_workers):
                for some in _split(piece.scenes):
                    found = model.detect(some, self.suppression)
                    results += [(one, scene.truth, scene.size) for one, scene in zip(found, some, strict=True)]
                progress.advance(len(piece.rows) * fabric.world_size)
        results = sorted(gathered(results, fabric), key=lambda result: result[0].row)
        if not results:
            raise SimcoreError(f"{sets.test.name}: no test image can be read")
        return Measured(*(list(column) for column in zip(*results, strict=True)))


BUILT_BY = ("anchor_size", "min_size", "max_size", "nms_iou", "nms_across_classes", "min_score")


def _split(scenes: Sequence[WholeScene]) -> Iterator[Sequence[WholeScene]]:
    for first in range(0, len(scenes), AT_ONCE):
        yield scenes[first : first + AT_ONCE]


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was found and what is there, image by image in source order."""

    found: Sequence[Found]
    truth: Sequence[Boxes]
    sizes: Sequence[tuple[int, int]]

    def write(self, out: Path, source: ImageSource, classes: Sequence[str], categories: Sequence[int]) -> None:
        """Leave both as COCO JSON."""
        write_coco(out, source, classes, categories, self.found, self.truth, self.sizes)

    def examples(self, source: ImageSource, classes: Sequence[str]) -> list[dict[str, Any]]:
        """Give the first images, with their boxes, for a report to draw."""
        shown = []
        for one, true, size in list(zip(self.found, self.truth, self.sizes, strict=True))[:NUM_EXAMPLES]:
            sure = one.boxes.take(one.scores >= EXAMPLE_SCORE)
            shown.append(
                {
                    **example_of(source, one.row),
                    "size": list(size),
                    "truth": _named(true, classes, [None] * len(true)),
                    "found": _named(sure, classes, one.scores[one.scores >= EXAMPLE_SCORE].tolist()),
                }
            )
        return shown


def _named(boxes: Boxes, classes: Sequence[str], scores: Sequence[float | None]) -> list[dict[str, Any]]:
    listed = zip(boxes.edges.tolist(), boxes.labels.tolist(), scores, strict=True)
    return [
        {"box": [round(edge, 2) for edge in edges], "class": classes[label]}
        | ({} if score is None else {"score": round(score, 4)})
        for edges, label, score in list(listed)[:EXAMPLE_BOXES]
    ]


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedDetector:
    """A detector ready for use, with the names of its classes."""

    model: Detector
    facts: Mapping[str, Any]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names; a found box's label indexes into them."""
        return tuple(self.facts["classes"])

    def __call__(self, images: ImageSource, *, num_workers: int | None = 0) -> Iterator[tuple[int, Found]]:
        """Yield (row, what was found) for every readable image."""
        facts = self.facts
        scenes = BoxScenes(
            source=images,
            numbers=np.full(max(1, len(images.classes)), -1, np.int64),
            min_size=facts["min_size"],
            max_size=facts["max_size"],
        )
        chosen = Suppression(
            iou=facts["nms_iou"], across_classes=facts["nms_across_classes"], min_score=facts["min_score"]
        )
        for piece in in_order(scenes, make_fabric("cpu", "32"), num_workers=num_workers):
            for one in self.model.detect(piece.scenes, chosen):
                yield one.row, one


def load_detector(place: str | os.PathLike[str]) -> TrainedDetector:
    """Open the detector that ``simcore evaluate detection`` left in a folder."""

    def build(encoder: Encoder, facts: Mapping[str, Any]) -> Detector:
        return Detector(
            encoder,
            num_classes=len(facts["classes"]),
            anchor_size=facts["anchor_size"],
            backbone_lr_scale=0.0,
            seed=0,
        )

    return TrainedDetector(*rebuilt(place, FILE_NAME, "detector", build))
