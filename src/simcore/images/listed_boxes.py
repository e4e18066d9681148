"""Boxes and masks that the table of a list names: ``left top right bottom [class]``, parted by ``;``."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import pyarrow as pa

from simcore.errors import SimcoreError
from simcore.images.boxes import COLUMN, FoundBox, box_column
from simcore.images.masks import with_masks
from simcore.images.source import ImageSource

UNNAMED = "object"


def annotated(source: ImageSource, boxes: Sequence[str | None], masks: Sequence[str | None]) -> ImageSource:
    """Give the source with the boxes (text, None where there is no such column) and mask paths of its rows."""
    if any(text is not None for text in boxes):
        source = _with_boxes(source, boxes)
    return with_masks(source, list(masks)) if any(masks) else source


def _with_boxes(source: ImageSource, texts: Sequence[str | None]) -> ImageSource:
    parsed = [
        None if text is None else [_parts(part, text) for part in text.split(";") if part.strip()] for text in texts
    ]
    labels, ids = source.labels.tolist(), source.table["id"].to_pylist()
    named = {name for found in parsed if found for _, name in found if name}
    if any(name is None and labels[row] < 0 for row, found in enumerate(parsed) for _, name in found or ()):
        named.add(UNNAMED)
    classes = (*source.classes, *sorted(named - set(source.classes)))
    number = {name: place for place, name in enumerate(classes)}
    rows = [
        None if found is None else [_box(edges, name, labels[row], number, ids[row]) for edges, name in found]
        for row, found in enumerate(parsed)
    ]
    column = box_column(rows)
    notes = source.notes
    if column.remark:
        notes = dataclasses.replace(notes, remarks=(*notes.remarks, column.remark))
    listing: pa.Table = source.listing.append_column(COLUMN, column.array)
    return dataclasses.replace(source, listing=listing, classes=classes, notes=notes)


def _parts(text: str, cell: str) -> tuple[tuple[float, ...], str | None]:
    words = text.split(maxsplit=4)
    try:
        edges = tuple(map(float, words[:4]))
    except ValueError:
        edges = ()
    if len(edges) != 4:
        raise SimcoreError(f"boxes '{cell[:80]}': each must be 'left top right bottom' in pixels, perhaps with a class")
    return edges, words[4].strip() if len(words) == 5 else None


def _box(edges: tuple[float, ...], name: str | None, label: int, number: Mapping[str, int], row: str) -> FoundBox:
    if name is not None:
        label = number[name]
    elif label < 0:
        label = number[UNNAMED]
    left, top, right, bottom = (edge if math.isfinite(edge) else math.nan for edge in edges)
    return FoundBox((left, top, right, bottom), label, name=row)
