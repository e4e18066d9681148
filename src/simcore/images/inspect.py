"""inspect_images: decode every image of a source and say what is there, what is bad and what is there twice."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from simcore.images.decode import decode
from simcore.images.duplicates import THUMBNAIL, equal_groups, similar_groups, thumbnail
from simcore.images.faults import ImageFault, Refused
from simcore.images.source import ImageSource, SourceNotes
from simcore.progress import Progress

TASK_ROWS = 128
MAX_DEFAULT_WORKERS = 8
DIGEST_BYTES = 16

Fault = tuple[str, str]
Groups = tuple[tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspection:
    """What was found.

    Attributes:
        source: the source as the user wrote it.
        num_ok: images that decode.
        unreadable, refused: (id, reason) of those that do not, in source order.
        duplicates: groups of images with equal pixels; the first of a group is the one to keep.
        near_duplicates: groups of different images that look the same; one of each ``duplicates`` group.
        classes: readable images of each class.
        num_unlabelled: readable images without a label.
        widths, heights: minimum, median and maximum in pixels of the upright images; empty where there are none.
        formats: readable images of each format.
        notes: what was left out while listing.
    """

    source: str
    num_ok: int
    unreadable: tuple[Fault, ...]
    refused: tuple[Fault, ...]
    duplicates: Groups
    near_duplicates: Groups
    classes: Mapping[str, int]
    num_unlabelled: int
    widths: Mapping[str, float]
    heights: Mapping[str, float]
    formats: Mapping[str, int]
    notes: SourceNotes

    @property
    def num_bad(self) -> int:
        """Items that a strict run does not accept: unreadable, refused, and containers that are not whole."""
        return len(self.unreadable) + len(self.refused) + len(self.notes.incomplete)

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each bad item and for each thing noted while listing."""
        items = (f"{name}: {reason}" for name, reason in (*self.unreadable, *self.refused))
        return (*self.notes.warnings, *items)

    def first_bad(self, count: int) -> list[str]:
        """Give one line for each of the first bad items."""
        return [f"{name} ({why})" for name, why in (*self.notes.incomplete, *self.unreadable, *self.refused)][:count]

    def to_json(self) -> dict[str, Any]:
        """Give the report of the command line."""
        return {
            "source": self.source,
            "n_images": self.num_ok + len(self.unreadable) + len(self.refused),
            "n_ok": self.num_ok,
            "n_unreadable": len(self.unreadable),
            "n_refused": len(self.refused),
            "n_duplicates": sum(len(group) - 1 for group in self.duplicates),
            "n_near_duplicates": sum(len(group) - 1 for group in self.near_duplicates),
            "n_classes": len(self.classes),
            "n_unlabelled": self.num_unlabelled,
            "n_hidden_skipped": self.notes.num_hidden,
            "n_other_skipped": self.notes.num_other,
            "n_incomplete": len(self.notes.incomplete),
            "n_warnings": len(self.warnings),
            "unreadable": _entries(self.unreadable, "id"),
            "refused": _entries(self.refused, "id"),
            "incomplete": _entries(self.notes.incomplete, "name"),
            "duplicates": [list(group) for group in self.duplicates],
            "near_duplicates": [list(group) for group in self.near_duplicates],
            "classes": dict(self.classes),
            "empty_classes": list(self.notes.empty_classes),
            "sizes": {"width": dict(self.widths), "height": dict(self.heights)},
            "formats": dict(self.formats),
            "warnings": list(self.warnings),
        }


def _entries(faults: tuple[Fault, ...], key: str) -> list[dict[str, str]]:
    return [{key: name, "reason": reason} for name, reason in faults]


def inspect_images(source: ImageSource, *, num_workers: int | None = None, quiet: bool = False) -> Inspection:
    """Decode every image; the result is the same for any number of workers.

    Workers are threads, since Pillow decodes outside the interpreter's lock: no process can die or hang.
    0 works in the calling thread, None takes one per processor.
    """
    found = _Findings(source)
    with Progress("inspect", total=len(source), quiet=quiet) as progress:
        for part in _parts(source, num_workers):
            found.add(part)
            progress.advance(part.stop - part.start)
    return found.inspection()


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """What the rows [start, stop) gave; the arrays have an entry for each of the readable ``rows``."""

    start: int
    stop: int
    faults: list[tuple[int, ImageFault]]
    rows: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int32]  # [n, 2] width, height
    formats: list[str]
    digests: npt.NDArray[np.void]
    thumbnails: npt.NDArray[np.uint8]  # [n, THUMBNAIL, THUMBNAIL, 3]


def _parts(source: ImageSource, num_workers: int | None) -> Iterator[_Part]:
    """Inspect the source piece by piece, in order, with a bounded number of pieces under way."""
    workers = min(os.cpu_count() or 1, MAX_DEFAULT_WORKERS) if num_workers is None else num_workers
    starts = range(0, len(source), TASK_ROWS)
    if workers < 1:
        yield from (_inspect_rows(source, start) for start in starts)
        return
    with ThreadPoolExecutor(workers) as pool:
        under_way: collections.deque[Any] = collections.deque()
        for start in starts:
            under_way.append(pool.submit(_inspect_rows, source, start))
            if len(under_way) > 2 * workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def _inspect_rows(source: ImageSource, start: int) -> _Part:
    stop = min(start + TASK_ROWS, len(source))
    faults, rows, sizes, formats, digests, thumbnails = [], [], [], [], [], []
    for row, data in source.scan(start, stop):
        try:
            if isinstance(data, ImageFault):
                raise data
            picture = decode(data, limits=source.limits)
        except ImageFault as fault:
            faults.append((row, fault))
            continue
        rows.append(row)
        sizes.append((picture.width, picture.height))
        formats.append(picture.format)
        digests.append(_digest(picture.pixels))
        thumbnails.append(thumbnail(picture.pixels))
    return _Part(
        start=start,
        stop=stop,
        faults=faults,
        rows=np.array(rows, np.int64),
        sizes=np.array(sizes, np.int32).reshape(-1, 2),
        formats=formats,
        digests=np.frombuffer(b"".join(digests), f"V{DIGEST_BYTES}"),
        thumbnails=np.array(thumbnails, np.uint8).reshape(-1, THUMBNAIL, THUMBNAIL, 3),
    )


def _digest(pixels: npt.NDArray[np.uint8]) -> bytes:
    return hashlib.sha256(repr(pixels.shape).encode() + b"\0" + pixels.tobytes()).digest()[:DIGEST_BYTES]


class _Findings:
    """Puts the parts together."""

    def __init__(self, source: ImageSource) -> None:
        self._source = source
        self._parts: list[_Part] = []

    def add(self, part: _Part) -> None:
        self._parts.append(part)

    def _join(self, name: str) -> npt.NDArray[Any]:
        return np.concatenate([getattr(part, name) for part in self._parts])

    def _ids(self, rows: npt.ArrayLike) -> list[str]:
        names: list[str] = self._source.listing["id"].take(np.asarray(rows, np.int64)).to_pylist()
        return names

    def inspection(self) -> Inspection:
        """Count, and look for duplicates among all readable images."""
        rows, sizes = self._join("rows"), self._join("sizes")
        equal = equal_groups(self._join("digests"))
        repeats = np.array([at for group in equal for at in group[1:]], np.int64)
        single = np.setdiff1d(np.arange(len(rows)), repeats)
        similar = [single[group] for group in similar_groups(self._join("thumbnails")[single], sizes[single])]
        labels = self._source.labels[rows]
        faults = [(name, fault) for part in self._parts for name, fault in self._named(part.faults)]
        return Inspection(
            source=self._source.name,
            num_ok=len(rows),
            unreadable=tuple((name, fault.reason) for name, fault in faults if not isinstance(fault, Refused)),
            refused=tuple((name, fault.reason) for name, fault in faults if isinstance(fault, Refused)),
            duplicates=tuple(tuple(self._ids(rows[group])) for group in equal),
            near_duplicates=tuple(tuple(self._ids(rows[group])) for group in similar),
            classes=_class_counts(labels, self._source),
            num_unlabelled=int((labels < 0).sum()),
            widths=_spread(sizes[:, 0]),
            heights=_spread(sizes[:, 1]),
            formats=dict(sorted(collections.Counter(name for part in self._parts for name in part.formats).items())),
            notes=self._source.notes,
        )

    def _named(self, faults: list[tuple[int, ImageFault]]) -> Iterator[tuple[str, ImageFault]]:
        yield from zip(self._ids([row for row, _ in faults]), [fault for _, fault in faults], strict=True)


def _class_counts(labels: npt.NDArray[np.int64], source: ImageSource) -> dict[str, int]:
    """Count the readable images of each class of which the source lists any."""
    listed = np.unique(source.labels[source.labels >= 0])
    counts = np.bincount(labels[labels >= 0], minlength=len(source.classes))
    return {source.classes[label]: int(counts[label]) for label in listed.tolist()}


def _spread(values: npt.NDArray[np.int32]) -> dict[str, float]:
    if not len(values):
        return {}
    return {"min": int(values.min()), "median": float(np.median(values)), "max": int(values.max())}
