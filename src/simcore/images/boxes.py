"""Boxes of a source: columns of its listing, how they are read, and which of them can be used.

A source with boxes has a column ``boxes`` in its listing, one list a row: null where nothing is said of an image,
empty where it is known to show no object. Edges are pixels of the upright image counted from 0; right and bottom lie
just outside. ``label`` is an index into ``ImageSource.classes``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from simcore.images.source import ImageSource

EDGES = ("left", "top", "right", "bottom")
BOX = pa.struct([*((edge, pa.float64()) for edge in EDGES), ("label", pa.int64()), ("crowd", pa.bool_())])
COLUMN = "boxes"
DROPPED_SHOWN = 10


class FoundBox(NamedTuple):
    """One box as a file tells it.

    ``crowd`` marks what is neither to be learnt nor to be counted (COCO's crowds, VOC's difficult objects); ``name``
    is what a warning calls the box.
    """

    edges: tuple[float, float, float, float]
    label: int
    crowd: bool = False
    name: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Boxes:
    """The boxes of one image.

    Shape:
        edges: float64 [n, 4] as left, top, right, bottom.
        labels: int64 [n]; crowd: bool [n].
    """

    edges: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    crowd: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: npt.NDArray[np.bool_]) -> Boxes:
        """Keep some."""
        return Boxes(self.edges[rows], self.labels[rows], self.crowd[rows])

    def inside(self, width: int, height: int) -> Boxes:
        """Clip to an image of this size and drop what has no area left."""
        edges = clipped(self.edges, width, height)
        return Boxes(edges, self.labels, self.crowd).take(has_area(edges))


def clipped(edges: npt.NDArray[np.float64], width: float, height: float) -> npt.NDArray[np.float64]:
    """Move the edges [n, 4] that lie outside an image of this size onto its border."""
    return np.clip(edges, 0.0, np.array([width, height, width, height], np.float64))


def has_area(edges: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Tell for each of [n, 4] whether it is made of numbers, wider than 0 and higher than 0."""
    finite = np.isfinite(edges).all(axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray(finite & (edges[:, 2] > edges[:, 0]) & (edges[:, 3] > edges[:, 1]))


@dataclasses.dataclass(frozen=True)
class BoxColumn:
    """Boxes of many images, ready for a listing, and a remark on those that were dropped (or "")."""

    array: pa.ListArray
    remark: str


def box_column(
    found: Sequence[Sequence[FoundBox] | None], sizes: Sequence[tuple[float, float] | None] | None = None
) -> BoxColumn:
    """Make the column of boxes: clipped to the images where their sizes (width, height) are known.

    A box without area, or outside its image, is dropped and told of.
    """
    kept: list[list[FoundBox] | None] = []
    dropped: list[str] = []
    total = 0
    for row, boxes in enumerate(found):
        if boxes is None:
            kept.append(None)
            continue
        total += len(boxes)
        kept.append([])
        for box in boxes:
            usable = _usable(box, sizes[row] if sizes is not None else None)
            kept[-1].append(usable) if usable is not None else dropped.append(box.name)  # type: ignore[union-attr]
    return BoxColumn(_arrow(kept), _remark(total, dropped))


def _usable(box: FoundBox, size: tuple[float, float] | None) -> FoundBox | None:
    edges = np.asarray([box.edges], np.float64)
    if size is not None:
        edges = clipped(edges, *size)
    if not has_area(edges)[0]:
        return None
    left, top, right, bottom = edges[0].tolist()
    return box._replace(edges=(left, top, right, bottom))


def _arrow(kept: Sequence[Sequence[FoundBox] | None]) -> pa.ListArray:
    every = [box for boxes in kept if boxes is not None for box in boxes]
    edges = np.array([box.edges for box in every], np.float64).reshape(-1, 4)
    columns = [pa.array(edges[:, side]) for side in range(4)]
    columns.append(pa.array([box.label for box in every], pa.int64()))
    columns.append(pa.array([box.crowd for box in every], pa.bool_()))
    ends = np.cumsum([0, *(0 if boxes is None else len(boxes) for boxes in kept)])
    missing = pa.array([boxes is None for boxes in kept], pa.bool_())
    values = pa.StructArray.from_arrays(columns, fields=list(BOX))
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), values, mask=missing)


def _remark(total: int, dropped: Sequence[str]) -> str:
    if not dropped:
        return ""
    named = ", ".join(dropped[:DROPPED_SHOWN]) + (", …" if len(dropped) > DROPPED_SHOWN else "")
    return f"{len(dropped):,} of {total:,} boxes dropped, without area or outside the image ({named})"


def has_boxes(source: ImageSource) -> bool:
    """Tell whether anything is said of objects in the images."""
    return COLUMN in source.listing.column_names


def boxed_rows(source: ImageSource) -> npt.NDArray[np.int64]:
    """Give the rows of which it is known what objects they show, be it none."""
    if not has_boxes(source):
        return np.zeros(0, np.int64)
    known = pc.is_valid(source.listing[COLUMN]).to_numpy(zero_copy_only=False)
    return np.flatnonzero(known)


def boxes_of(source: ImageSource, row: int) -> Boxes:
    """Give the boxes of one row; none where nothing is said of it."""
    cell = source.listing[COLUMN][row] if has_boxes(source) else None
    values = cell.values if cell is not None and cell.is_valid else pa.array([], BOX)
    edges = np.stack([values.field(edge).to_numpy(zero_copy_only=False) for edge in EDGES], axis=1)
    return Boxes(
        edges=np.asarray(edges, np.float64),
        labels=np.array(values.field("label").to_numpy(zero_copy_only=False), np.int64),
        crowd=np.array(values.field("crowd").to_numpy(zero_copy_only=False), bool),
    )


def box_labels(source: ImageSource) -> npt.NDArray[np.int64]:
    """Give the labels of all boxes that count, in source order, int64 [n]."""
    if not has_boxes(source):
        return np.zeros(0, np.int64)
    values = pc.list_flatten(source.listing[COLUMN]).combine_chunks()
    labels = np.asarray(values.field("label").to_numpy(zero_copy_only=False), np.int64)
    counts = ~np.asarray(values.field("crowd").to_numpy(zero_copy_only=False), bool)
    return np.asarray(labels[counts], np.int64)
