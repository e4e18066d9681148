"""Segmentation: DeepLabV3+ on a pretrained backbone, trained on images with masks and scored by overlap."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from simcore.embedding import Encoder
from simcore.errors import UsageError
from simcore.images import ImageSource
from simcore.images.mask_classes import MaskClasses
from simcore.settings import setting
from simcore.tasks._scene_task import SceneTask
from simcore.tasks._scenes import PlainScene, PlainScenes
from simcore.tasks._segmentation_problem import SegmentationProblem
from simcore.tasks._segmentation_scenes import masked_sets
from simcore.tasks._segmenter import Segmenter
from simcore.tasks._trained import Trained, load_trained

__all__ = ["Segmentation", "TrainedSegmenter", "load_segmenter"]

STRIDES = (8, 16)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segmentation(SceneTask):
    """Train DeepLabV3+ on a frozen backbone and measure pixel accuracy and intersection over union.

    Sources with masks: ``masks:FOLDER`` (``images/`` and ``masks/`` in it, of equal names but for the ending; perhaps
    below ``train/`` and ``test/``), Pascal VOC (``voc:FOLDER``, from ``SegmentationClass/``), a list with a column
    ``mask``, and data sets with masks that ``simcore prepare`` made. A mask is a PNG of class numbers, grey or with a
    palette, or of colours; ``--mask-classes background=0 cat=1-3 sky=#80c0ff`` says what its values mean, else each
    value is a class of its own but for ``--ignore-value``.

    Recipe: crops of 224 pixels out of images scaled by 0.5 to 2 (short side 256) and flipped, SGD (Nesterov) whose
    rate of 1.0 falls as a power of 0.9, weight decay 1e-4, 30 epochs of 256 images (Birds: 128); pixels that are
    ignored count nowhere (Kim et al. 2023, Table 7c and its code, where 0.1 is the backbone's rate and the head's is
    ten times that: ``--backbone-lr-scale 0.1``; here the backbone is frozen by default). Measured is the whole image
    at its own size, not its middle.

    Leaves ``segmenter.safetensors`` (for ``simcore predict``), a palette PNG a test image in ``masks/``, and
    ``predictions.json``, which says whose it is.
    """

    epochs: int = setting(30, "passes over the training images")
    lr: float = setting(1.0, "learning rate of the decoder at its highest")
    batch_size: int = setting(256, "images a step, over all processes")
    optimizer: str = setting("sgd", "update rule", choices=("sgd", "adam", "adamw", "lars"))
    weight_decay: float = setting(1e-4, "weight decay")
    schedule: str = setting("poly", "course of the learning rate", choices=("cosine", "poly", "constant"))
    crop_size: int | None = setting(None, "side of a training crop in pixels (default: the encoder's image size)")
    output_stride: int = setting(16, "pixels from one cell of the backbone's last map to the next: 16 or 8")
    mask_classes: tuple[str, ...] = setting(
        (), "what mask values mean: NAME=VALUE, NAME=LOW-HIGH or NAME=#rrggbb (default: each value is a class)"
    )
    ignore_value: int = setting(255, "value that is no class, where the values name themselves")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output_stride not in STRIDES:
            raise UsageError(f"--output-stride is {self.output_stride}, but must be 8 or 16")
        if self.crop_size is not None and self.crop_size < self.output_stride:
            raise UsageError(f"--crop-size is {self.crop_size}, but must be at least {self.output_stride}")
        if self.batch_size < 2:
            raise UsageError(f"--batch-size is {self.batch_size}, but must be at least 2")
        MaskClasses.parse(self.mask_classes)  # refuses what it cannot read

    def problem(self, encoder: Encoder, train: ImageSource, test: ImageSource) -> SegmentationProblem:
        """Find the classes of the masks, and build the segmenter."""
        sets = masked_sets(train, test, self.mask_classes, self.ignore_value)
        model = Segmenter(
            encoder,
            num_classes=len(sets.classes),
            output_stride=self.output_stride,
            backbone_lr_scale=self.backbone_lr_scale,
            seed=self.seed,
        )
        facts = {"output_stride": self.output_stride, "crop_size": self.crop_size or encoder.image_size}
        return SegmentationProblem(sets, model, facts)


class TrainedSegmenter(Trained[Segmenter, npt.NDArray[np.uint8]]):
    """A segmenter ready for use; called with images it yields the class numbers [H, W] of each that can be read."""

    def scenes(self, images: ImageSource) -> PlainScenes:
        """Resize as was done in measuring."""
        return PlainScenes(source=images, short_side=self.facts["crop_size"])

    def answer(self, scenes: Sequence[PlainScene]) -> list[npt.NDArray[np.uint8]]:
        """Give the class number of each pixel, uint8 [H, W] each."""
        return self.model.segment(scenes)


def load_segmenter(place: str | os.PathLike[str]) -> TrainedSegmenter:
    """Open the segmenter that ``simcore evaluate segmentation`` left in a folder."""

    def build(encoder: Encoder, facts: Mapping[str, Any]) -> Segmenter:
        return Segmenter(
            encoder,
            num_classes=len(facts["classes"]),
            output_stride=facts["output_stride"],
            backbone_lr_scale=0.0,
            seed=0,
        )

    return TrainedSegmenter(*load_trained(place, "segmenter", build))
