"""Images with boxes for detection: classes matched, and the joint transforms of pixels and boxes."""

from __future__ import annotations

import dataclasses
import math
import warnings
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from simcore.errors import SimcoreError, SimcoreWarning
from simcore.images import ImageSource
from simcore.images.boxes import Boxes, box_labels, boxed_rows, boxes_of
from simcore.tasks._classes import ClassMap, match_classes, relabelled
from simcore.tasks._scenes import Scenes

DETAIL = 2  # a training image is decoded at no less than this many times the short side that it ends at


class TrainScene(NamedTuple):
    """One image to learn from.

    Shape:
        pixels: uint8 [3, H, W]; boxes: float32 [n, 4] as left, top, right, bottom in it; labels: int64 [n].
    """

    pixels: Tensor
    boxes: Tensor
    labels: Tensor


class WholeScene(NamedTuple):
    """One image to be measured on: ``pixels`` uint8 [3, H, W] resized, ``truth`` and ``size`` those of the whole."""

    row: int
    pixels: Tensor
    size: tuple[int, int]
    truth: Boxes


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class BoxScenes(Scenes):
    """Rows of a source with boxes, for a detector.

    Attributes:
        numbers: class number of each label of the source, int64 [num_labels]; -1 for a class that is not taken.
        min_size, max_size: the short side after resizing, and what the long side may be at most.
    """

    numbers: npt.NDArray[np.int64]
    min_size: int
    max_size: int

    def scene(self, row: int, *, augmented: bool) -> TrainScene | WholeScene:
        """Give a random crop around all boxes, flipped at random, or the whole image with its truth."""
        decoded = self.source.decode(row, short_side=self.min_size * (DETAIL if augmented else 1))
        whole = boxes_of(self.source, row).inside(decoded.width, decoded.height)
        truth = Boxes(whole.edges, self.numbers[whole.labels], whole.crowd)
        truth = truth.take(truth.labels >= 0)
        height, width = decoded.pixels.shape[:2]
        pixels = tv_tensors.Image(torch.from_numpy(decoded.pixels).permute(2, 0, 1))
        if not augmented:
            resized = self.resized(height, width)
            return WholeScene(
                row, _plain(v2.functional.resize(pixels, list(resized))), (decoded.width, decoded.height), truth
            )
        scale = np.array([width / decoded.width, height / decoded.height] * 2)
        return self._augmented(pixels, truth.take(~truth.crowd), scale)

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Give height and width after resizing: short side to ``min_size``, unless the long one passed its limit."""
        scale = min(self.min_size / min(height, width), self.max_size / max(height, width))
        return max(1, round(height * scale)), max(1, round(width * scale))

    def _augmented(self, pixels: tv_tensors.Image, truth: Boxes, scale: npt.NDArray[np.float64]) -> TrainScene:
        boxes = tv_tensors.BoundingBoxes(
            torch.from_numpy(truth.edges * scale).float(), format="XYXY", canvas_size=tuple(pixels.shape[-2:])
        )
        labels = torch.from_numpy(truth.labels)
        pixels, boxes = v2.Compose([SafeCrop(), v2.RandomHorizontalFlip()])(pixels, boxes)
        size = list(self.resized(*pixels.shape[-2:]))
        pixels, boxes = (v2.functional.resize(part, size) for part in (pixels, boxes))
        tidy = v2.Compose([v2.ClampBoundingBoxes(), v2.SanitizeBoundingBoxes(min_size=1.0)])
        kept: dict[str, Any] = tidy({"boxes": boxes, "labels": labels})
        return TrainScene(_plain(pixels), _plain(kept["boxes"]), kept["labels"])


class SafeCrop(v2.Transform):  # type: ignore[misc]
    """Cut a random part that holds every box; an image without boxes stays whole.

    Each of the four margins around the boxes is kept to a share drawn evenly from 0 to 1.
    """

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the part, in whole pixels that cut into no box."""
        height, width = next(part for part in flat_inputs if isinstance(part, tv_tensors.Image)).shape[-2:]
        boxes = next(part for part in flat_inputs if isinstance(part, tv_tensors.BoundingBoxes))
        keep = torch.rand(4).tolist()
        if not len(boxes):
            return {"top": 0, "left": 0, "height": height, "width": width}
        left, top = boxes[:, :2].min(0).values.tolist()
        right, bottom = boxes[:, 2:].max(0).values.tolist()
        left, top = math.floor(left * keep[0]), math.floor(top * keep[1])
        right = min(width, math.ceil(right + (width - right) * keep[2]))
        bottom = min(height, math.ceil(bottom + (height - bottom) * keep[3]))
        return {"top": top, "left": left, "height": bottom - top, "width": right - left}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Cut it out of pixels or boxes."""
        return v2.functional.crop(inpt, **params)


def _plain(tensor: Tensor) -> Tensor:
    return tensor.as_subclass(Tensor).contiguous()


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class BoxedSets:
    """Train and test rows with boxes, and the classes that the train boxes have."""

    train: ImageSource
    test: ImageSource
    matched: ClassMap

    def numbers(self, source: ImageSource) -> npt.NDArray[np.int64]:
        """Give the class number of each label of ``source``, -1 for none."""
        return relabelled(np.arange(len(source.classes)), source.classes, self.matched.classes)

    def details(self) -> dict[str, Any]:
        """Give names and counts as a report tells them."""
        matched = self.matched
        return {
            "num_classes": len(matched.classes),
            "num_train": len(self.train),
            "num_test": len(self.test),
            "num_train_boxes": int((matched.train >= 0).sum()),
            "num_test_boxes": int((matched.test >= 0).sum()),
            "absent_classes": list(matched.untested),
            "test_classes_unknown_to_train": dict(matched.unknown),
        }


def boxed_sets(train: ImageSource, test: ImageSource) -> BoxedSets:
    """Keep the images of which it is known what they show, and match the classes by name; say what is left out."""
    kept = []
    for part, source in (("train", train), ("test", test)):
        rows = boxed_rows(source)
        if not len(box_labels(source)):
            raise SimcoreError(
                f"{source.name}: no {part} image has a box; give COCO .json, VOC XML, a list with a column 'boxes', or "
                "what `simcore prepare` made of a data set with boxes"
            )
        if len(rows) < len(source):
            _tell(f"{len(source) - len(rows):,} of {len(source):,} {part} images say nothing of boxes and are left out")
        kept.append(source.take(rows))
    matched = match_classes(box_labels(kept[0]), train.classes, box_labels(kept[1]), test.classes)
    if matched.unknown:
        named = ", ".join(f"'{name}' ({count})" for name, count in list(matched.unknown.items())[:8])
        _tell(f"test boxes of classes unknown to the train set are left out: {named}")
    return BoxedSets(train=kept[0], test=kept[1], matched=matched)


def _tell(text: str) -> None:
    warnings.warn(text, SimcoreWarning, stacklevel=3)
