"""ParquetReader: rows of image tables, a bounded piece of a row group at a time."""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import functools
import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from simcore.images.faults import ImageFault, Limits, Unreadable
from simcore.images.names import escape
from simcore.images.source import Place, read_each
from simcore.images.storage import folder_of, is_remote, join, local_path, open_binary, read_bytes, retried

# A row group's image column is read in pieces of about this size. Within a group, pieces can only be reached one
# after the other, so in tables of huge row groups random access is slow (say so to users: export to shards).
PIECE_BYTES = 64 << 20
KEPT_BYTES = 128 << 20
STREAM_BYTES = 1 << 20


class Group(NamedTuple):
    """One row group: its rows, and how many of them make a piece."""

    rows: int
    piece: int


def groups_of(table: pq.ParquetFile, column: str) -> tuple[Group, ...]:
    """Plan the pieces of each row group by the uncompressed size of the image column."""
    planned = []
    for number in range(table.num_row_groups):
        group = table.metadata.row_group(number)
        parts = [group.column(at) for at in range(group.num_columns)]
        size = sum(p.total_uncompressed_size for p in parts if p.path_in_schema.partition(".")[0] == column)
        pieces = max(1, -(-size // PIECE_BYTES))
        planned.append(Group(group.num_rows, max(1, -(-group.num_rows // pieces))))
    return tuple(planned)


@contextlib.contextmanager
def opened_table(file: str, *, streamed: bool = False) -> Iterator[pq.ParquetFile]:
    """Open a local or remote Parquet file; raises ``Unreadable`` where it is none or has lost its end.

    ``streamed`` reads column chunks through a small buffer instead of whole.
    """
    with open_binary(file) as raw:
        handle: Any = raw
        if not raw.seekable():  # a server that knows no ranges
            handle = pa.BufferReader(raw.read())
        _check_ends(handle)
        try:
            yield pq.ParquetFile(handle, pre_buffer=False, buffer_size=STREAM_BYTES if streamed else 0)
        except pa.ArrowException as error:
            raise Unreadable(f"damaged ({one_line(error)})") from error
        except OSError as error:
            if type(error) is OSError:  # how Arrow reports bad bytes; a broken connection has a type of its own
                raise Unreadable(f"damaged ({one_line(error)})") from error
            raise


def _check_ends(handle: Any) -> None:
    """A Parquet file begins and ends with its signature; the index of its rows stands at the end."""
    size = handle.seek(0, 2)
    size = handle.tell() if size is None else size
    if size == 0:
        raise Unreadable("empty (0 bytes)")
    handle.seek(0)
    start = handle.read(4)
    if start == b"PARE":
        raise Unreadable("encrypted")
    if start != b"PAR1":
        raise Unreadable("not a Parquet file")
    handle.seek(max(size - 4, 0))
    if size < 12 or handle.read(4) != b"PAR1":
        raise Unreadable("truncated (its index, at the end, is lost)")
    handle.seek(0)


@dataclasses.dataclass(frozen=True)
class ParquetReader:
    """Reads row ``first`` of the table ``unit``, keeping the pieces used last for the next rows of this process."""

    files: tuple[str, ...]
    columns: tuple[str, ...]
    groups: tuple[tuple[Group, ...], ...]
    fingerprint: str
    undated: str
    stamps_rows: bool = False
    _kept: _KeptPieces = dataclasses.field(default_factory=lambda: _KeptPieces(), compare=False, repr=False)

    def read(self, place: Place, limits: Limits) -> bytes:
        """Fetch one row."""
        group, piece, row = self._locate(place)
        key = _Key(place.unit, group, piece)
        column = retried(self.files[place.unit], lambda: self._kept.get(key, self._pieces))
        return image_bytes(column, row, folder_of(self.files[place.unit]), limits)

    def scan(self, places: Sequence[Place], limits: Limits) -> Iterator[bytes | ImageFault]:
        """Fetch rows in order; neighbours share a piece, which is read once."""
        return read_each(self, places, limits)

    def num_rows(self, unit: int) -> int:
        """Count the rows of one table."""
        return sum(group.rows for group in self.groups[unit])

    @functools.cached_property
    def _ends(self) -> list[list[int]]:
        """Give the first row behind each row group of each table."""
        return [list(itertools.accumulate(group.rows for group in groups)) for groups in self.groups]

    def _locate(self, place: Place) -> tuple[int, int, int]:
        """Give (row group, piece in it, row in that)."""
        ends = self._ends[place.unit]
        number = bisect.bisect_right(ends, place.first)
        group = self.groups[place.unit][number]
        return number, *divmod(place.first - ends[number] + group.rows, group.piece)

    def _pieces(self, unit: int, group: int) -> Iterator[pa.Array]:
        """Give the pieces of one row group from its start."""
        name, plan = self.columns[unit], self.groups[unit][group]
        with opened_table(self.files[unit], streamed=plan.piece < plan.rows) as table:
            batches = table.iter_batches(plan.piece, row_groups=[group], columns=[name], use_threads=False)
            yield from (batch.column(0) for batch in batches)


class _Key(NamedTuple):
    unit: int
    group: int
    piece: int


class _KeptPieces:
    """The pieces used last, up to ``KEPT_BYTES``, and the place reached in the row group that is being read.

    Threads share it; a forked or pickled copy starts empty.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._columns: OrderedDict[_Key, pa.Array] = OrderedDict()
        self._next: _Key | None = None
        self._under_way: Iterator[pa.Array] = iter(())

    def __reduce__(self) -> tuple[type[_KeptPieces], tuple[()]]:
        return _KeptPieces, ()

    @property
    def nbytes(self) -> int:
        """Size of what is kept."""
        return sum(column.nbytes for column in self._columns.values())

    def get(self, key: _Key, pieces: Callable[[int, int], Iterator[pa.Array]]) -> pa.Array:
        """Give a piece, read with ``pieces(unit, group)`` if it is not at hand."""
        if self._process != os.getpid():
            self.__dict__.update(_KeptPieces().__dict__)
        with self._lock:
            if key not in self._columns:
                self._columns[key] = self._advance_to(key, pieces)
                while len(self._columns) > 1 and self.nbytes > KEPT_BYTES:
                    self._columns.popitem(last=False)
            self._columns.move_to_end(key)
            return self._columns[key]

    def _advance_to(self, key: _Key, pieces: Callable[[int, int], Iterator[pa.Array]]) -> pa.Array:
        if self._next is None or self._next[:2] != key[:2] or self._next.piece > key.piece:
            self._under_way, self._next = pieces(key.unit, key.group), key._replace(piece=0)
        skipped = key.piece - self._next.piece
        self._next = None  # a failure on the way leaves no place to go on from
        for _ in range(skipped):
            next(self._under_way, None)
        column = next(self._under_way, None)
        if column is None:
            raise Unreadable(f"damaged (row group {key.group} holds fewer rows than it says)")
        self._next = key._replace(piece=key.piece + 1)
        return column


def image_bytes(column: pa.Array, row: int, folder: str, limits: Limits) -> bytes:
    """Give the image of one row of an image column; a path is followed from ``folder``."""
    value = column[row].as_py()
    data, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
    if isinstance(data, str):
        data, path = None, data
    if value is None:
        raise Unreadable("null (the row holds no image)")
    if data is not None:
        limits.check_bytes(len(data))
        return bytes(data)
    if not path:
        raise Unreadable("null bytes and no path")
    try:
        place = join(folder, local_path(str(path)))
        return read_bytes(place if is_remote(place) else escape(place))
    except Unreadable as fault:
        raise Unreadable(f"null bytes, and {fault.reason} at its path {path}") from fault


def one_line(error: BaseException) -> str:
    """Put an error into one short line."""
    return " ".join(str(error).split())[:160] or type(error).__name__
