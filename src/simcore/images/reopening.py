"""open_uris: from the uris that a store or a coreset holds back to a source of those images."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from simcore.errors import SimcoreError
from simcore.images.faults import Unreadable
from simcore.images.names import unescape
from simcore.images.parquet import reader_of_tables
from simcore.images.row_groups import ParquetReader
from simcore.images.shards import TarReader, member_places
from simcore.images.single_files import FileReader
from simcore.images.source import ImageSource, listing_of
from simcore.images.storage import is_remote, stamp_of

if TYPE_CHECKING:
    from simcore.artifacts import Embeddings, Selection

TAR_SCHEME = "tar://"


def open_uris(given: Selection | Embeddings) -> ImageSource:
    """Open the images of a coreset, or those behind a store, where they lie now; rows in the given order.

    Raises ``SimcoreError`` where there are no uris, or where a shard or table is gone or does not hold a row.
    """
    name, ids, uris, labels, classes = _columns(given)
    kinds = [_kind(uri) for uri in uris]
    reader = np.array([("file", "tar", "row").index(kind) for kind in kinds], np.int32)
    unit, first, second = (np.zeros(len(uris), np.int64), *np.full((2, len(uris)), -1))
    tar_reader = _resolve_tars(uris, np.flatnonzero(reader == 1), unit, first, second)
    table_reader = _resolve_rows(uris, np.flatnonzero(reader == 2), unit, first)
    if not hasattr(given, "table"):  # a coreset; one look at each file of a whole pool would take too long
        _stamp_files(uris, np.flatnonzero(reader == 0), first, second)
    listing = listing_of(
        ids=ids, uris=pa.array(uris, pa.string()), labels=labels, units=unit, firsts=first, seconds=second
    )
    listing = listing.set_column(3, "reader", pa.array(reader))
    return ImageSource(name=name, classes=classes, listing=listing, readers=(FileReader(), tar_reader, table_reader))


def _columns(given: Selection | Embeddings) -> tuple[str, pa.Array, list[str], pa.Array, tuple[str, ...]]:
    table = given.table if hasattr(given, "table") else given.to_arrow()
    uris = table["uri"].to_pylist()
    if not uris:
        raise SimcoreError("there are no images to read: nothing was chosen, or the store is empty")
    if uris == table["id"].to_pylist() and "/" not in uris[0]:
        raise SimcoreError("these features came from a plain array, which says nothing about where the images are")
    labels = table["label"] if "label" in table.column_names else pa.nulls(len(uris), pa.int64())
    place = getattr(given, "path", None)
    name = str(place) if place else f"{len(uris):,} chosen images"
    return name, _plain(table["id"]), uris, _plain(labels), given.classes


def _stamp_files(uris: list[str], rows: np.ndarray, first: np.ndarray, second: np.ndarray) -> None:
    """Note size and modification stamp of local files, so that a change shows in the fingerprint."""
    for row in rows:
        if not is_remote(uris[row]):
            with contextlib.suppress(Unreadable):
                first[row], second[row] = stamp_of(unescape(uris[row]))


def _plain(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _kind(uri: str) -> str:
    if uri.startswith(TAR_SCHEME) and "::" in uri:
        return "tar"
    table, found, row = uri.rpartition("#row=")
    return "row" if found and table and row.isdigit() else "file"


def _split_units(pairs: Sequence[tuple[str, str]]) -> tuple[list[str], np.ndarray]:
    numbers: dict[str, int] = {}
    owner = [numbers.setdefault(container, len(numbers)) for container, _ in pairs]
    return [name if is_remote(name) else unescape(name) for name in numbers], np.array(owner, np.int64)


def _resolve_tars(
    uris: list[str], rows: np.ndarray, unit: np.ndarray, first: np.ndarray, second: np.ndarray
) -> TarReader:
    """Find the members' offsets by reading the headers of the shards they lie in."""
    pairs = [uris[row].removeprefix(TAR_SCHEME).rpartition("::")[::2][::-1] for row in rows]
    shards, owner = _split_units(pairs)
    unit[rows] = owner
    for number, places in enumerate(member_places(shards)):
        for row in rows[owner == number]:
            member = uris[row].removeprefix(TAR_SCHEME).rpartition("::")[0]
            if member not in places:
                raise SimcoreError(f"{shards[number]}: holds no member '{member}' any more")
            first[row], second[row] = places[member]
    return TarReader(tuple(shards), "reopened", "reopened")


def _resolve_rows(uris: list[str], rows: np.ndarray, unit: np.ndarray, first: np.ndarray) -> ParquetReader:
    pairs = [uris[row].rpartition("#row=")[::2] for row in rows]
    files, owner = _split_units(pairs)
    unit[rows] = owner
    first[rows] = [int(row) for _, row in pairs]
    reader = reader_of_tables(files)
    for number, file in enumerate(files):
        highest = int(first[rows[owner == number]].max())
        if highest >= reader.num_rows(number):
            raise SimcoreError(f"{file}: has {reader.num_rows(number):,} rows, row {highest} is asked for")
    return reader
