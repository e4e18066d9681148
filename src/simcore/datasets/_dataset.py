"""What a named data set is: facts about it, and how its published files become rows."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator, Mapping
from typing import ClassVar, NamedTuple

from simcore.datasets._tree import Tree

Box = tuple[float, float, float, float]
"""Left, top, right, bottom edge in pixels, counted from 0; right and bottom lie just outside."""

NONE: Mapping[str, str] = types.MappingProxyType({})


class Row(NamedTuple):
    """One image of a data set as published.

    Attributes:
        split: ``train`` or ``test``.
        path: where the file lies, absolute.
        label: class name (never a bare number, which a list would take for a class index), None where there is none.
        attributes: further labels and columns by name (``family``, ``part``, …).
        boxes: of the object, none to several.
        mask: path of the segmentation mask, "" where there is none.
    """

    split: str
    path: str
    label: str | None
    attributes: Mapping[str, str] = NONE
    boxes: tuple[Box, ...] = ()
    mask: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set by name. A subclass states the facts and says in :meth:`rows` how its published files are read.

    Counts are those of the published SimCore experiments; None stands where they are not stated. ``published`` says
    which files the home page offers and ``archives`` are glob patterns of them; ``markers`` are names of which every
    one must be found for the files to count as unpacked.
    """

    title: ClassVar[str]
    kind: ClassVar[str] = "target"
    licence: ClassVar[str]
    home: ClassVar[str]
    published: ClassVar[str]
    archives: ClassVar[tuple[str, ...]]
    markers: ClassVar[tuple[str, ...]] = ()

    num_classes: ClassVar[int | None] = None
    num_train: ClassVar[int | None] = None
    num_test: ClassVar[int | None] = None
    metric: ClassVar[str | None] = None

    attributes: ClassVar[Mapping[str, int | None]] = types.MappingProxyType({})
    """Columns that may serve as the label, with the published number of classes."""
    columns: ClassVar[tuple[str, ...]] = ()
    """Further columns."""
    has_boxes: ClassVar[bool] = False
    mask_values: ClassVar[str] = ""
    """What the values of a mask mean; "" where the set has no masks."""
    mask_classes: ClassVar[tuple[str, ...]] = ()
    """The same as ``simcore.images.mask_classes`` reads it; what is not named is ignored."""

    def rows(self, tree: Tree) -> Iterator[Row]:
        """Read the official lists in ``tree`` and give the images in their order."""
        raise NotImplementedError

    def is_unpacked(self, tree: Tree) -> bool:
        """Tell whether ``tree`` holds the files themselves and not only the archives."""
        return all(tree.find(marker) is not None for marker in self.markers)

    def reject(self, row: Row) -> str | None:
        """Say why the published experiments leave this image out, or None."""
        return None

    def wants(self, member: str) -> bool:
        """Tell whether a member of an official archive is needed at all."""
        return True

    def shelf(self, archive: str) -> str:
        """Name the sub-folder into which an archive that has no folder of its own belongs ("" for none)."""
        return ""


def corner_box(left: float, top: float, right: float, bottom: float) -> Box:
    """Turn corners counted from 1 with the last pixel inside (MATLAB's habit) into a :data:`Box`."""
    return (min(left, right) - 1, min(top, bottom) - 1, max(left, right), max(top, bottom))
