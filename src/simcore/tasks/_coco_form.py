"""Boxes in COCO's form: the truth, results by image id, or both images and found boxes in one file."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

from simcore.artifacts.files import written_aside
from simcore.images import ImageSource
from simcore.images.boxes import Boxes
from simcore.images.coco_json import IMAGE_ID
from simcore.tasks._detector import Found

DIGITS = 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class CocoForm:
    """How the images of a source and some classes are called in COCO's form.

    Attributes:
        image_ids: one a row, each once.
        file_names: the ids of the rows.
        classes: names; a label indexes into them.
        category_ids: one a class.
    """

    image_ids: Sequence[int]
    file_names: Sequence[str]
    classes: Sequence[str]
    category_ids: Sequence[int]

    @classmethod
    def of(cls, source: ImageSource, classes: Sequence[str], category_ids: Sequence[int]) -> CocoForm:
        """Take the numbers of the source's own COCO file, or else count the rows from 1."""
        names = source.table["id"].to_pylist()
        return cls(image_ids=image_ids(source), file_names=names, classes=classes, category_ids=category_ids)

    @property
    def categories(self) -> list[dict[str, Any]]:
        """Number and name of each class."""
        pairs = zip(self.category_ids, self.classes, strict=True)
        return [{"id": number, "name": name} for number, name in pairs]

    def image(self, row: int, size: tuple[int, int]) -> dict[str, Any]:
        """Describe one image of this width and height."""
        width, height = size
        return {"id": self.image_ids[row], "file_name": self.file_names[row], "width": width, "height": height}

    def boxes(self, row: int, boxes: Boxes) -> Iterator[dict[str, Any]]:
        """Describe the boxes of one image: left, top, width and height in pixels."""
        for (left, top, right, bottom), label in zip(boxes.edges.tolist(), boxes.labels.tolist(), strict=True):
            sides = [round(value, DIGITS) for value in (left, top, right - left, bottom - top)]
            yield {"image_id": self.image_ids[row], "category_id": self.category_ids[label], "bbox": sides}

    def results(self, found: Found) -> Iterator[dict[str, Any]]:
        """Describe found boxes, each with its score."""
        for entry, score in zip(self.boxes(found.row, found.boxes), found.scores.tolist(), strict=True):
            yield {**entry, "score": round(score, DIGITS)}

    def truth(self, true: Mapping[int, tuple[tuple[int, int], Boxes]]) -> dict[str, Any]:
        """Describe images of which, by row, size and boxes are known."""
        boxes = [
            _numbered(number, entry, crowd) for number, (entry, crowd) in enumerate(self._with_crowds(true), start=1)
        ]
        images = [self.image(row, size) for row, (size, _) in true.items()]
        return {"images": images, "categories": self.categories, "annotations": boxes}

    def _with_crowds(self, true: Mapping[int, tuple[tuple[int, int], Boxes]]) -> Iterator[tuple[dict[str, Any], bool]]:
        for row, (_, boxes) in true.items():
            yield from zip(self.boxes(row, boxes), boxes.crowd.tolist(), strict=True)


def image_ids(source: ImageSource) -> list[int]:
    """Give the number of each image: that of its COCO file, or else its place counted from 1.

    Sources of several files may be joined: where their numbers collide, those of none are taken.
    """
    if IMAGE_ID in source.listing.column_names and not source.listing[IMAGE_ID].null_count:
        numbers = [int(number) for number in source.listing[IMAGE_ID].to_pylist()]
        if len(set(numbers)) == len(numbers):
            return numbers
    return list(range(1, len(source) + 1))


def category_ids(source: ImageSource, classes: Sequence[str]) -> list[int]:
    """Give the number of each class: that of its COCO file, or else its place counted from 1."""
    number = dict(zip(source.classes, source.category_ids, strict=False))
    known = [number.get(name) for name in classes]
    return [n for n in known if n is not None] if None not in known else list(range(1, len(classes) + 1))


@dataclasses.dataclass
class Written:
    """How many images were looked at, and how many boxes found."""

    num_images: int = 0
    num_boxes: int = 0


def write_found(path: str | os.PathLike[str], form: CocoForm, found: Iterable[Found]) -> Written:
    """Write images, categories and found boxes (with scores) into one file; only counts and sizes are held.

    COCO's own tools take it for annotations, and simcore for a source.
    """
    counted, sizes = Written(), []
    with written_aside(path) as aside, aside.open("w", encoding="utf-8") as file:
        file.write('{"annotations": [')
        for one in found:
            sizes.append((one.row, one.size))
            for entry in form.results(one):
                counted.num_boxes += 1
                _add(file, _numbered(counted.num_boxes, entry), first=counted.num_boxes == 1)
        file.write('\n],\n"images": [')
        for number, (row, size) in enumerate(sizes):
            _add(file, form.image(row, size), first=number == 0)
        file.write(f'\n],\n"categories": {json.dumps(form.categories, ensure_ascii=False)}}}\n')
    counted.num_images = len(sizes)
    return counted


def _add(file: IO[str], entry: Mapping[str, Any], *, first: bool) -> None:
    file.write(("\n" if first else ",\n") + json.dumps(entry, ensure_ascii=False))


def _numbered(number: int, entry: Mapping[str, Any], crowd: bool = False) -> dict[str, Any]:
    """Make a box an annotation, as COCO's tools want it."""
    width, height = entry["bbox"][2:]
    return {"id": number, **entry, "area": width * height, "iscrowd": int(crowd)}
