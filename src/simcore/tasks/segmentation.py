"""Segmentation: DeepLabV3+ on a pretrained backbone, trained on images with masks and scored by overlap."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from simcore.artifacts import Embeddings, Report
from simcore.artifacts.files import write_json, written_aside
from simcore.embedding import Encoder
from simcore.embedding.preprocess import proportional_resize
from simcore.errors import SimcoreError, UsageError
from simcore.images import ImageFault, ImageSource
from simcore.images.mask_classes import MaskClasses
from simcore.images.mask_colours import colour_table
from simcore.images.masks import mask_uri
from simcore.progress import Progress
from simcore.settings import setting
from simcore.tasks._scene_task import SceneTask, example_of, gathered
from simcore.tasks._scenes import in_order
from simcore.tasks._segmentation_scenes import MaskedScene, MaskedSets, MaskScenes, masked_sets, short_side_to
from simcore.tasks._segmentation_score import Counts, confusion, figures, ious
from simcore.tasks._segmenter import Segmenter
from simcore.tasks._trained import rebuilt, save_trained
from simcore.tasks._tuned import check_inputs
from simcore.training import make_fabric
from simcore.training.gather import sum_over_processes

__all__ = ["Segmentation", "TrainedSegmenter", "load_segmenter"]

FILE_NAME = "segmenter.safetensors"
NUM_EXAMPLES = 12
STRIDES = (8, 16)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segmentation(SceneTask):
    """Train DeepLabV3+ on a frozen backbone and measure pixel accuracy and intersection over union.

    Recipe: crops of 224 pixels out of images scaled by 0.5 to 2 (short side 256) and flipped, SGD (Nesterov) whose
    rate of 1.0 falls as a power of 0.9, weight decay 1e-4, 30 epochs of 256 images (Birds: 128); pixels that are
    ignored count nowhere (Kim et al. 2023, Table 7c and its code, where 0.1 is the backbone's rate and the head's is
    ten times that). Measured is the whole image at its own size, not its middle. Sources: ``masks:FOLDER`` with
    ``images/`` and ``masks/``, lists with a column ``mask``, VOC, and prepared sets with masks. Leaves a palette PNG a
    test image in ``masks/``.
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

    def evaluate(
        self,
        encoder: Encoder | None,
        train: ImageSource | Embeddings,
        test: ImageSource | Embeddings,
        *,
        out: Path | None,
        quiet: bool,
    ) -> Report:
        """Train, segment and count; ``out`` gets the segmenter and its masks."""
        encoder, train, test = check_inputs(self, encoder, train, test, out)
        sets = masked_sets(train, test, self.mask_classes, self.ignore_value)
        parents = {"encoder": encoder.fingerprint, "train": train.fingerprint, "test": test.fingerprint}
        fabric = make_fabric(self.device, self.precision)
        model = Segmenter(
            encoder,
            num_classes=len(sets.classes),
            output_stride=self.output_stride,
            backbone_lr_scale=self.backbone_lr_scale,
            seed=self.seed,
        )
        crop_size = self.crop_size or encoder.image_size
        num_unreadable = self.train_on(
            model,
            _scenes(sets, sets.train, sets.train_code, crop_size),
            fabric,
            parents=parents,
            out=out,
            label="segmentation",
            min_batch=2,  # batch normalisation of a map of one cell
            quiet=quiet,
        )
        counts, rows = self._measure(model, sets, crop_size, fabric, out, quiet)
        facts = {"classes": list(sets.classes), "output_stride": self.output_stride, "crop_size": crop_size}
        place = out if fabric.is_global_zero else None
        head = save_trained(place and place / FILE_NAME, model.network, "segmenter", encoder, facts)
        if place is not None:
            _write_index(place, sets, rows)
        details = {
            **_described(sets, counts),
            "num_train_skipped": num_unreadable,
            "num_test_skipped": len(sets.test) - len(rows),
            "examples": _examples(sets, rows, out),
        }
        return self.report(figures(counts, sets.classes), details, {**parents, "head": head})

    def _measure(
        self, model: Segmenter, sets: MaskedSets, crop_size: int, fabric: Any, out: Path | None, quiet: bool
    ) -> tuple[Counts, list[int]]:
        """Segment the test images, leaving their masks; give the counts and the rows that could be read."""
        model.eval()
        counts = np.zeros((len(sets.classes),) * 2, np.int64)
        rows: list[int] = []
        scenes = _scenes(sets, sets.test, sets.test_code, crop_size)
        silent = quiet or not fabric.is_global_zero
        with Progress("segment", total=len(sets.test), quiet=silent) as progress:
            for piece in in_order(scenes, fabric, num_workers=self.num_workers):
                for scene, found in zip(piece.scenes, model.segment(piece.scenes), strict=True):
                    counts += confusion(scene.mask.numpy(), found, len(sets.classes))
                    if out is not None:
                        write_mask(mask_path(out, scene.row), found)
                rows += piece.rows
                progress.advance((len(piece.rows) + len(piece.faults)) * fabric.world_size)
        rows = sorted(gathered(rows, fabric))
        if not rows:
            raise SimcoreError(f"{sets.test.name}: no test image can be read")
        shared = torch.from_numpy(counts).to(fabric.device)
        return sum_over_processes(shared).cpu().numpy(), rows


def _scenes(sets: MaskedSets, source: ImageSource, code: MaskClasses, crop_size: int) -> MaskScenes:
    return MaskScenes(
        source=source,
        code=code,
        numbers=sets.numbers(code),
        crop_size=crop_size,
        base_size=proportional_resize(crop_size),
    )


def mask_path(out: Path, row: int) -> Path:
    """Say where the mask of a test row lies."""
    return out / "masks" / f"{row:06d}.png"


def write_mask(path: Path, classes: npt.NDArray[np.uint8]) -> None:
    """Write class numbers as a PNG whose palette shows them in colours."""
    picture = Image.fromarray(classes)
    picture.putpalette(colour_table().tobytes())  # makes a grey picture one of indices, with the same values
    with written_aside(path) as aside:
        picture.save(aside, "PNG")


def _write_index(out: Path, sets: MaskedSets, rows: list[int]) -> None:
    names = sets.test.table["id"].to_pylist()
    files = [{"id": names[row], "mask": f"masks/{mask_path(out, row).name}"} for row in rows]
    write_json(out / "predictions.json", {"classes": list(sets.classes), "images": files})


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


def _examples(sets: MaskedSets, rows: list[int], out: Path | None) -> list[dict[str, Any]]:
    """Give the first images, with where their masks lie and what the values mean, for a report to draw."""
    if out is None:
        return []
    code = {"names": list(sets.test_code.names), "texts": _texts(sets.test_code), "classes": list(sets.classes)}
    return [
        {
            **example_of(sets.test, row),
            "truth": mask_uri(sets.test, row),
            "found": str(mask_path(out, row).resolve()),
            "code": code,
        }
        for row in rows[:NUM_EXAMPLES]
    ]


def _texts(code: MaskClasses) -> list[str]:
    values = [f"{code.names[number]}={low}-{high}" for low, high, number in code.ranges]
    return values + [f"{code.names[number]}=#{colour:06x}" for colour, number in code.colours]


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedSegmenter:
    """A segmenter ready for use, with the names of its classes."""

    model: Segmenter
    facts: Mapping[str, Any]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names; a pixel's number indexes into them."""
        return tuple(self.facts["classes"])

    def __call__(self, images: ImageSource) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        """Yield (row, class numbers uint8 [H, W]) for every readable image."""
        for row in range(len(images)):
            try:
                decoded = images.decode(row, short_side=self.facts["crop_size"])
            except ImageFault:
                continue
            pixels = short_side_to(torch.from_numpy(decoded.pixels).permute(2, 0, 1), self.facts["crop_size"])
            blank = torch.zeros(decoded.height, decoded.width, dtype=torch.uint8)
            yield row, self.model.segment([MaskedScene(row, pixels, blank)])[0]


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

    return TrainedSegmenter(*rebuilt(place, FILE_NAME, "segmenter", build))
