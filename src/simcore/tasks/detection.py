"""Detection: RetinaNet on a pretrained backbone, trained on images with boxes and scored by average precision."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from simcore.embedding import Encoder
from simcore.errors import UsageError
from simcore.images import ImageSource
from simcore.settings import setting
from simcore.tasks._detection_problem import DetectionProblem
from simcore.tasks._detection_scenes import boxed_sets
from simcore.tasks._detection_score import need_scorer
from simcore.tasks._detector import NORM_GROUPS, Detector, Found, Suppression
from simcore.tasks._scene_task import SceneTask
from simcore.tasks._scenes import PlainScene, PlainScenes
from simcore.tasks._trained import Trained, load_trained

__all__ = ["Detection", "TrainedDetector", "load_detector"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Detection(SceneTask):
    """Train a detector on a frozen backbone and measure it by COCO's average precision.

    Sources with boxes: a COCO file (``coco:boxes.json``), Pascal VOC XML (``voc:FOLDER``), a list with a column
    ``boxes`` (``left top right bottom [class]`` in pixels, several parted by ``;``), and data sets with boxes that
    ``simcore prepare`` made. An image with an empty cell or no annotation shows nothing.

    Recipe: RetinaNet with a feature pyramid, images of 200 to 333 pixels, crops that keep every box and flips, Adam
    with 1e-4 and weight decay 5e-4 along a cosine, 100 epochs of 16 images, and suppression over an IoU of 0.2
    whatever the classes (Kim et al. 2023, Table 7c and its code). The backbone stays frozen unless
    ``--backbone-lr-scale`` gives it a learning rate.

    Leaves ``detector.safetensors`` (for ``simcore predict``), and ``predictions.json`` and ``truth.json`` in COCO's
    form, with the ids of the source where it has any.
    """

    min_size: int = setting(200, "short side of the resized images in pixels")
    max_size: int = setting(333, "what their long side may be at most")
    anchor_size: int = setting(32, "side of the smallest anchor in pixels; each level doubles it")
    channels: int = setting(256, "channels of the feature pyramid and of the heads: fewer for a small machine")
    group_norm: bool = setting(False, "normalise the layers of the heads by groups: they learn from fewer steps")
    nms_iou: float = setting(0.2, "overlap (IoU) above which only the better of two boxes stays")
    nms_across_classes: bool = setting(True, "also between boxes of different classes")
    min_score: float = setting(0.05, "score below which a box does not count as found")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.min_size <= self.max_size:
            raise UsageError(f"--min-size {self.min_size} must be from 1 to --max-size {self.max_size}")
        if self.anchor_size < 1 or not 0 < self.nms_iou <= 1 or not 0 <= self.min_score < 1:
            raise UsageError("--anchor-size must be at least 1, --nms-iou in (0, 1] and --min-score in [0, 1)")

        if self.channels < 1 or (self.group_norm and self.channels % NORM_GROUPS):
            raise UsageError(
                f"--channels is {self.channels}, but must be at least 1, with --group-norm a multiple of 32"
            )

    def problem(self, encoder: Encoder, train: ImageSource, test: ImageSource) -> DetectionProblem:
        """Match the classes of the boxes, and build the detector."""
        need_scorer()
        sets = boxed_sets(train, test)
        model = Detector(
            encoder,
            num_classes=len(sets.matched.classes),
            anchor_size=self.anchor_size,
            channels=self.channels,
            group_norm=self.group_norm,
            backbone_lr_scale=self.backbone_lr_scale,
            seed=self.seed,
        )
        facts = {name: getattr(self, name) for name in BUILT_BY}
        return DetectionProblem(sets, model, _suppression(facts), facts)


BUILT_BY = (
    "anchor_size",
    "channels",
    "group_norm",
    "min_size",
    "max_size",
    "nms_iou",
    "nms_across_classes",
    "min_score",
)


def _suppression(facts: Mapping[str, Any]) -> Suppression:
    return Suppression(iou=facts["nms_iou"], across_classes=facts["nms_across_classes"], min_score=facts["min_score"])


class TrainedDetector(Trained[Detector, Found]):
    """A detector ready for use; called with images it yields what it finds in each that can be read."""

    def scenes(self, images: ImageSource) -> PlainScenes:
        """Resize as was done in training."""
        return PlainScenes(source=images, short_side=self.facts["min_size"], long_side=self.facts["max_size"])

    def answer(self, scenes: Sequence[PlainScene]) -> list[Found]:
        """Find the objects in some images."""
        return self.model.detect(scenes, _suppression(self.facts))


def load_detector(place: str | os.PathLike[str]) -> TrainedDetector:
    """Open the detector that ``simcore evaluate detection`` left in a folder."""

    def build(encoder: Encoder, facts: Mapping[str, Any]) -> Detector:
        return Detector(
            encoder,
            num_classes=len(facts["classes"]),
            anchor_size=facts["anchor_size"],
            channels=facts["channels"],
            group_norm=facts["group_norm"],
            backbone_lr_scale=0.0,
            seed=0,
        )

    return TrainedDetector(*load_trained(place, "detector", build))
