"""ImageSource: an ordered listing of images, with readers that fetch the bytes of a row.

There is one concrete class for every kind of source. A kind (folder, list, tar shards, Parquet) builds a
listing and a reader; selecting, joining and reading rows are then the same for all of them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from simcore.artifacts._html import card
from simcore.artifacts.files import fingerprint
from simcore.errors import SimcoreError
from simcore.images.annotations import digestible, relabelled, undated
from simcore.images.faults import ImageFault, Limits

if TYPE_CHECKING:
    from simcore.artifacts import Selection
    from simcore.images.decode import Decoded

LISTING_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("uri", pa.string()),
        ("label", pa.int64()),
        ("reader", pa.int32()),  # index into ImageSource.readers
        ("unit", pa.int32()),  # which container of that reader
        ("first", pa.int64()),  # where in the container, or size of the file (the reader knows)
        ("second", pa.int64()),  # size in the container, or modification stamp of the file
    ]
)


_HEAD = ("class", "images")


class Place(NamedTuple):
    """Where the bytes of one row lie; the meaning of the numbers is the reader's own."""

    uri: str
    unit: int
    first: int
    second: int


class Reader(Protocol):
    """Fetches bytes of one kind of source. Picklable; whatever it holds open belongs to one process."""

    @property
    def fingerprint(self) -> str:
        """Of the containers it reads; constant where the listing itself says all there is."""
        ...

    @property
    def undated(self) -> str:
        """The same without their modification stamps."""
        ...

    @property
    def stamps_rows(self) -> bool:
        """Whether ``second`` of a row is the modification stamp of its file."""
        ...

    def read(self, place: Place, limits: Limits) -> bytes:
        """Fetch one image; raises ``ImageFault``."""
        ...

    def scan(self, places: Sequence[Place], limits: Limits) -> Iterator[bytes | ImageFault]:
        """Fetch images of one unit in the order of the listing, the quickest way."""
        ...


def read_each(reader: Reader, places: Sequence[Place], limits: Limits) -> Iterator[bytes | ImageFault]:
    """Scan by reading one after the other: for readers that know no quicker way."""
    for place in places:
        try:
            yield reader.read(place, limits)
        except ImageFault as fault:
            yield fault


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceNotes:
    """What was left out while listing.

    Attributes:
        num_hidden: hidden files passed over (leading dot, ``__MACOSX``, ``Thumbs.db`` …).
        num_other: files passed over since they are no images (``.txt``, ``.json`` …).
        num_repeated: entries left out since the same image is listed already.
        incomplete: containers or folders that could not be read whole, as (name, reason).
        empty_classes: class folders without an image.
        remarks: anything else worth a warning.
    """

    num_hidden: int = 0
    num_other: int = 0
    num_repeated: int = 0
    incomplete: tuple[tuple[str, str], ...] = ()
    empty_classes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def __add__(self, other: SourceNotes) -> SourceNotes:
        joined = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in dataclasses.fields(self)}
        return SourceNotes(**joined)

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each thing that a person should know."""
        lines = [f"{name} is incomplete: {reason}" for name, reason in self.incomplete]
        lines += [f"class folder '{name}' holds no image and takes no number" for name in self.empty_classes]
        if self.num_repeated:
            lines.append(f"{self.num_repeated:,} entries name an image that is listed already and are left out")
        return (*lines, *self.remarks)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ImageSource:
    """An immutable, picklable listing of images; pixels are never held.

    Attributes:
        name: the source as the user wrote it.
        classes: class names; a label is an index into them.
        listing: one row an image, columns of ``LISTING_SCHEMA``, in source order; with annotations also those of
            ``boxes`` and ``masks``.
        readers: what ``listing['reader']`` counts.
        notes: what was left out while listing.
        limits: what :meth:`decode` refuses; by default as the environment says (``Limits.from_environment``).
        category_ids: numbers by which the classes' own file calls them, one a class; () where it has none.
        mask_classes: what the values of masks mean, as ``MaskClasses.parse`` takes it; () where nothing is said.
    """

    name: str
    classes: tuple[str, ...]
    listing: pa.Table
    readers: tuple[Reader, ...]
    notes: SourceNotes = SourceNotes()
    limits: Limits = dataclasses.field(default_factory=Limits.from_environment)
    category_ids: tuple[int, ...] = ()
    mask_classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self.listing.num_rows)

    def __repr__(self) -> str:
        return f"ImageSource({self.name!r}, {len(self):,} images, {len(self.classes)} classes)"

    def _repr_html_(self) -> str:
        labels = self.labels
        counts = np.bincount(labels[labels >= 0], minlength=len(self.classes))
        facts = {"images": len(self), "classes": len(self.classes), "unlabeled": int((labels < 0).sum())}
        return card(f"Images of {self.name}", facts, list(zip(self.classes, counts.tolist(), strict=False)), _HEAD)

    @property
    def table(self) -> pa.Table:
        """One row an image: id (string), uri (string), label (int64, null where there is none)."""
        return self.listing.select(["id", "uri", "label"])

    @functools.cached_property
    def labels(self) -> npt.NDArray[np.int64]:
        """Class index of each row [n]; -1 where a row has none."""
        return self._numbers("label")

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of ids, labels, sizes, modification stamps, and limits other than the usual.

        Equal while nothing was added, removed or rewritten.
        """
        return self._digest(self._numbers("second"), [reader.fingerprint for reader in self.readers], self.listing)

    @functools.cached_property
    def undated(self) -> str:
        """The fingerprint without modification stamps: equal in a copy whose files have other dates.

        A file that was rewritten in the same length goes unnoticed.
        """
        stamped = np.array([reader.stamps_rows for reader in self.readers])[self._numbers("reader")]
        seconds = np.where(stamped, -1, self._numbers("second"))
        return self._digest(seconds, [reader.undated for reader in self.readers], undated(self.listing))

    def _digest(self, seconds: npt.NDArray[np.int64], readers: list[str], listing: pa.Table) -> str:
        ids = self.listing["id"]
        lengths = np.asarray(pc.binary_length(ids).to_numpy(), np.int64)
        text = b"".join(chunk_bytes(chunk) for chunk in ids.chunks)
        numbers = [*(self._numbers(name) for name in ("label", "unit", "first")), seconds]
        more = list(digestible(listing, LISTING_SCHEMA.names))
        more += [self.mask_classes] if self.mask_classes else []
        more += [dataclasses.astuple(self.limits)] if self.limits != Limits() else []
        return fingerprint(text, lengths, *numbers, readers, self.classes, *more)

    def _numbers(self, column: str) -> npt.NDArray[np.int64]:
        values = self.listing[column].fill_null(-1).to_numpy()
        return np.asarray(values, np.int64)

    @functools.cached_property
    def _columns(self) -> tuple[pa.Array, npt.NDArray[np.int64], list[npt.NDArray[np.int64]]]:
        """Give uri, reader, and (unit, first, second) of all rows, quick to take single rows from."""
        uris = self.listing["uri"]
        numbers = [self._numbers(name) for name in ("unit", "first", "second")]
        return (uris.chunk(0) if uris.num_chunks == 1 else uris), self._numbers("reader"), numbers

    def __getstate__(self) -> dict[str, Any]:
        """Leave behind what can be derived."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def _places(self, start: int, stop: int) -> list[tuple[int, Place]]:
        part = self.listing.slice(start, stop - start)
        columns = [part[name].to_pylist() for name in ("reader", "uri", "unit", "first", "second")]
        return [(reader, Place(*rest)) for reader, *rest in zip(*columns, strict=True)]

    def read(self, row: int) -> bytes:
        """Fetch the encoded bytes of one row; raises ``Unreadable`` or ``Refused``."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        uris, readers, numbers = self._columns
        place = Place(uris[row].as_py(), *(int(column[row]) for column in numbers))
        reader: Reader = self.readers[readers[row]]
        return reader.read(place, self.limits)

    def decode(self, row: int, *, short_side: int | None = None) -> Decoded:
        """Read and decode one row; raises ``Unreadable`` or ``Refused``."""
        from simcore.images.decode import decode

        return decode(self.read(row), short_side=short_side, limits=self.limits)

    def scan(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, bytes | ImageFault]]:
        """Walk rows [start, stop) in order as (row, bytes or fault); containers are read sequentially."""
        stop = len(self) if stop is None else min(stop, len(self))
        for low in range(start, stop, SCAN_BLOCK):
            places = self._places(low, min(low + SCAN_BLOCK, stop))
            yield from enumerate(self._scan_block(places), low)

    def _scan_block(self, places: list[tuple[int, Place]]) -> Iterator[bytes | ImageFault]:
        begin = 0
        for end in range(1, len(places) + 1):
            if end == len(places) or _unit(places[end]) != _unit(places[begin]):
                run = [place for _, place in places[begin:end]]
                yield from self.readers[places[begin][0]].scan(run, self.limits)
                begin = end

    def take(self, rows: Selection | npt.ArrayLike) -> ImageSource:
        """Keep the given rows in the given order: row numbers, or the picks of a Selection (found by their id)."""
        indices = self._rows_of(cast("Selection", rows)) if hasattr(rows, "indices") else np.asarray(rows)
        if indices.dtype == bool:
            indices = np.flatnonzero(indices)
        if indices.size and not (indices.min() >= 0 and indices.max() < len(self)):
            raise SimcoreError(f"{self.name}: rows run from 0 to {len(self) - 1}, row {indices.max()} was asked for")
        chosen = self.listing.take(pa.array(indices.astype(np.int64)))
        return dataclasses.replace(self, listing=chosen.combine_chunks())

    def _rows_of(self, selection: Selection) -> npt.NDArray[np.int64]:
        """Find picks by id, since a store's row numbers leave out what was unreadable."""
        if not selection.ids:
            return np.asarray(selection.indices, np.int64)
        rows = pc.index_in(pa.array(selection.ids, pa.string()), value_set=self.listing["id"].combine_chunks())
        if rows.null_count:
            lost = selection.ids[pc.index(rows.is_null(), True).as_py()]
            raise SimcoreError(f"{self.name}: {rows.null_count:,} chosen images are not in it; the first is '{lost}'")
        return np.asarray(rows.to_numpy(), np.int64)

    def __add__(self, other: ImageSource) -> ImageSource:
        """Join two sources; classes are matched by name, new ones numbered after those known."""
        known = {name: number for number, name in enumerate(self.classes)}
        extra = [name for name in other.classes if name not in known]
        numbers = pa.array([known.setdefault(name, len(known)) for name in other.classes], pa.int64())
        moved = relabelled(other.listing, numbers)
        shifted = pc.add(moved["reader"], len(self.readers)).cast(pa.int32())
        parts = [self.listing, moved.set_column(3, "reader", shifted)]
        listing = pa.concat_tables(parts, promote_options="default")
        codes = {source.mask_classes for source in (self, other)} - {()}
        if len(codes) > 1:
            raise SimcoreError(f"{self.name} and {other.name}: their masks mean different classes; not to be joined")
        return ImageSource(
            name=f"{self.name} + {other.name}",
            classes=(*self.classes, *extra),
            listing=listing.combine_chunks(),
            readers=(*self.readers, *other.readers),
            notes=self.notes + other.notes,
            limits=self.limits | other.limits,
            category_ids=self.category_ids if other.category_ids == self.category_ids and not extra else (),
            mask_classes=next(iter(codes), ()),
        )


SCAN_BLOCK = 1024


def _unit(place: tuple[int, Place]) -> tuple[int, int]:
    return place[0], place[1].unit


def chunk_bytes(chunk: pa.Array) -> bytes:
    """Give the characters of a string array, without its offsets."""
    lengths = pc.sum(pc.binary_length(chunk)).as_py() or 0
    if not lengths:
        return b""
    offsets = np.frombuffer(chunk.buffers()[1], np.int32, chunk.offset + 1)
    begin = int(offsets[-1])
    return cast(bytes, chunk.buffers()[2].slice(begin, lengths).to_pybytes())


def listing_of(
    *,
    ids: pa.Array,
    uris: pa.Array,
    labels: pa.Array,
    units: npt.ArrayLike | None = None,
    firsts: npt.ArrayLike,
    seconds: npt.ArrayLike,
) -> pa.Table:
    """Put the columns of a listing together; reader 0, unit 0 unless said otherwise."""
    zeros = pa.array(np.zeros(len(ids), np.int32))
    unit = zeros if units is None else pa.array(np.asarray(units, np.int32))
    numbers = [pa.array(np.asarray(values, np.int64)) for values in (firsts, seconds)]
    return pa.Table.from_arrays([ids, uris, labels, zeros, unit, *numbers], schema=LISTING_SCHEMA)
