"""The part of a source after '#': which rows of it, in source order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt

from simcore.errors import SimcoreError, UsageError
from simcore.images.source import ImageSource
from simcore.settings import suggest


class Listed(Protocol):
    """What selectors look at."""

    @property
    def name(self) -> str:
        """What to call it in a message."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; a label is an index into them."""
        ...

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Class index of each row; -1 where a row has none."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selectors:
    """``#classes=a,b&limit=N&limit-per-class=N&skip-per-class=N&split=NAME&label=COLUMN``.

    Applied in the order: split, label, classes, skip and limit per class, limit. Label numbers and class names stay
    those of the whole source. Rows without a label belong to no class, so what asks for classes leaves them out.
    """

    split: str | None = None
    label: str | None = None
    classes: tuple[str, ...] = ()
    skip_per_class: int = 0
    limit_per_class: int | None = None
    limit: int | None = None

    @classmethod
    def parse(cls, text: str, where: str) -> Selectors:
        """Read what stands after '#'; ``UsageError`` for unknown, repeated or unfit selectors."""
        values: dict[str, Any] = {}
        for part in text.split("&"):
            name, equals, value = part.partition("=")
            field = name.strip().replace("-", "_")
            if field not in _READERS:
                known = [known.replace("_", "-") for known in _READERS]
                raise UsageError(f"{where}: no selector is called '{name}'{suggest(name, known)}")
            if field in values:
                raise UsageError(f"{where}: the selector '{name}' is given twice")
            if not equals or not value:
                raise UsageError(f"{where}: the selector '{name}' needs a value, as in '{name}=…'")
            values[field] = _READERS[field](name, value, where)
        return cls(**values)

    def apply(self, source: ImageSource) -> ImageSource:
        """Keep the selected rows; ``SimcoreError`` where a class is unknown or nothing is left."""
        rows = self.rows(source)
        return source if len(rows) == len(source) else source.take(rows)

    def rows(self, listed: Listed) -> npt.NDArray[np.int64]:
        """Give the selected rows of a source, or of anything else that has labels and classes."""
        keep = np.ones(len(listed.labels), bool)
        if self.classes or self.skip_per_class or self.limit_per_class is not None:
            if (listed.labels < 0).all():
                raise SimcoreError(f"{listed.name}: selects by class, but no image has a label")
            keep = self._of_classes(listed)
            stop = None if self.limit_per_class is None else self.skip_per_class + self.limit_per_class
            keep &= _within(_rank_in_class(listed.labels), self.skip_per_class, stop)
        rows = np.flatnonzero(keep)[: self.limit]
        if not len(rows):
            raise SimcoreError(f"{listed.name}: none of its {len(keep):,} images is selected")
        return rows

    def _of_classes(self, listed: Listed) -> npt.NDArray[np.bool_]:
        if not self.classes:
            return listed.labels >= 0
        return np.isin(listed.labels, [_label_of(name, listed) for name in self.classes])


def _label_of(name: str, listed: Listed) -> int:
    """Find a class by name; a number that is no class's name is taken as the label itself."""
    if name in listed.classes:
        return listed.classes.index(name)
    if name.isascii() and name.isdigit() and int(name) < len(listed.classes):
        return int(name)
    raise SimcoreError(f"{listed.name}: no class is called '{name}'{_suggest_class(name, listed)}")


def _suggest_class(name: str, source: Listed) -> str:
    shown = source.classes if len(source.classes) <= 20 else [*source.classes[:20], "…"]
    near = suggest(name, source.classes)
    return near if near.startswith("; did you") else f"; it has {', '.join(shown)}"


def _rank_in_class(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Say the how-many-th row of its class each row is, from 0."""
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    rank = np.empty(len(labels), np.int64)
    rank[order] = np.arange(len(labels)) - np.repeat(starts, np.diff(np.r_[starts, len(labels)]))
    return rank


def _within(rank: npt.NDArray[np.int64], start: int, stop: int | None) -> npt.NDArray[np.bool_]:
    return (rank >= start) & (rank < stop) if stop is not None else rank >= start


def _count(name: str, value: str, where: str) -> int:
    if not value.isascii() or not value.isdigit():
        raise UsageError(f"{where}: the selector '{name}' needs a whole number from 0 up, not '{value}'")
    return int(value)


def _text(name: str, value: str, where: str) -> str:
    return unquote(value)


def _names(name: str, value: str, where: str) -> tuple[str, ...]:
    """Split at commas; a comma, ampersand or '#' inside a name is written %2C, %26, %23."""
    return tuple(unquote(part).strip() for part in value.split(",") if part.strip())


_READERS: dict[str, Callable[[str, str, str], Any]] = {
    "classes": _names,
    "label": _text,
    "limit": _count,
    "limit_per_class": _count,
    "skip_per_class": _count,
    "split": _text,
}
