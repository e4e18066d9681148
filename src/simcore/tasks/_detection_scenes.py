"""Images with boxes for detection: classes matched, and the joint transforms of pixels and boxes."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from simcore.errors import SimcoreError
from simcore.images import ImageSource
from simcore.images.boxes import Boxes, box_labels, boxed_rows, boxes_of
from simcore.tasks._classes import ClassMap, match_classes, relabelled
from simcore.tasks._scenes import PlainScenes, fitted, kept, tell

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
    """One image to be measured on: a :class:`PlainScene` with ``truth`` in pixels of the whole image."""

    row: int
    pixels: Tensor
    size: tuple[int, int]
    truth: Boxes


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class BoxScenes(PlainScenes):
    """Rows of a source with boxes, for a detector.

    Attributes:
        numbers: class number of each label of the source, int64 [num_labels]; -1 for a class that is not taken.
    """

    numbers: npt.NDArray[np.int64]

    def scene(self, row: int, *, augmented: bool) -> TrainScene | WholeScene:
        """Give a random crop around all boxes, flipped at random, or the whole image with its truth."""
        if not augmented:
            plain = self.plain(row)
            return WholeScene(*plain, self._truth(row, *plain.size))
        decoded = self.source.decode(row, short_side=DETAIL * self.short_side)
        truth = self._truth(row, decoded.width, decoded.height)
        height, width = decoded.pixels.shape[:2]
        scale = np.array([width / decoded.width, height / decoded.height] * 2)
        return self._augmented(decoded.pixels, dataclasses.replace(truth, edges=truth.edges * scale))

    def _truth(self, row: int, width: int, height: int) -> Boxes:
        """Give the boxes of classes that are taken, clipped to the whole image."""
        every = boxes_of(self.source, row).inside(width, height)
        boxes = Boxes(every.edges, self.numbers[every.labels], every.crowd)
        return boxes.take(boxes.labels >= 0)

    def _augmented(self, pixels: npt.NDArray[np.uint8], truth: Boxes) -> TrainScene:
        """Crop, flip and resize pixels [H, W, 3] and boxes in them together; crowds are nothing to learn."""
        image = tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1))
        learnt = truth.take(~truth.crowd)
        edges = torch.from_numpy(learnt.edges).float()
        boxes = tv_tensors.BoundingBoxes(edges, format="XYXY", canvas_size=pixels.shape[:2])
        image, boxes = v2.Compose([SafeCrop(), v2.RandomHorizontalFlip()])(image, boxes)
        height, width = image.shape[-2:]
        size = fitted(height, width, self.short_side, self.long_side)
        image, boxes = (v2.functional.resize(part, list(size)) for part in (image, boxes))
        tidy = v2.Compose([v2.ClampBoundingBoxes(), v2.SanitizeBoundingBoxes(min_size=1.0)])
        kept: dict[str, Any] = tidy({"boxes": boxes, "labels": torch.from_numpy(learnt.labels)})
        return TrainScene(_plain(image), _plain(kept["boxes"]), kept["labels"])


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
    sets = []
    for part, source in (("train", train), ("test", test)):
        rows = boxed_rows(source)
        if not len(box_labels(source)):
            raise SimcoreError(
                f"{source.name}: no {part} image has a box; give COCO .json, VOC XML, a list with a column 'boxes', or "
                "what `simcore prepare` made of a data set with boxes"
            )
        sets.append(kept(source, rows, f"{part} images say nothing of boxes"))
    matched = match_classes(box_labels(sets[0]), train.classes, box_labels(sets[1]), test.classes)
    if matched.unknown:
        named = ", ".join(f"'{name}' ({count})" for name, count in list(matched.unknown.items())[:8])
        tell(f"test boxes of classes unknown to the train set are left out: {named}")
    return BoxedSets(train=sets[0], test=sets[1], matched=matched)
