"""WebDataset shards: tar files whose members share a key (``KEY.jpg``, ``KEY.cls``), read by offset.

A key is a member's name without its last extension, so dots in folders and names never split it. One sample
gives one image. Labels come from ``.cls`` (integer or text), else from an all-integer ``.txt``, else from a
``.json`` with a field such as ``label``. A member ``__classes__`` may name the numbers (see ``samples``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simcore.artifacts.files import fingerprint
from simcore.errors import SimcoreError
from simcore.images.faults import ImageFault, Limits, Unreadable
from simcore.images.labels import number_labels, parse_labels
from simcore.images.names import escape
from simcore.images.samples import ShardIndex, empty_index, kept_index
from simcore.images.source import ImageSource, Place, SourceNotes, listing_of, read_each
from simcore.images.storage import is_remote, open_binary, read_range, stamp_of
from simcore.images.tar_index import NOWHERE, ForwardFile

INDEXING_THREADS = 16


@dataclasses.dataclass(frozen=True)
class TarReader:
    """Reads members by offset (``first``) and size (``second``) from the shard ``unit``."""

    shards: tuple[str, ...]
    fingerprint: str
    undated: str
    stamps_rows: bool = False

    def read(self, place: Place, limits: Limits) -> bytes:
        """Fetch one member."""
        _refuse_lost(place)
        limits.check_bytes(place.second)
        return read_range(self.shards[place.unit], place.first, place.second)

    def scan(self, places: Sequence[Place], limits: Limits) -> Iterator[bytes | ImageFault]:
        """Fetch members in one pass over the shard; one that lies further back is fetched by itself."""
        try:
            opened = open_binary(self.shards[places[0].unit])
        except Unreadable:
            yield from read_each(self, places, limits)
            return
        with opened as raw:
            file = ForwardFile(raw)
            for place in places:
                if place.first < file.position:
                    yield from read_each(self, [place], limits)
                else:
                    yield _read_forward(file, place, limits, self)


def _refuse_lost(place: Place) -> None:
    if place.second == NOWHERE:
        raise Unreadable("missing file (a link to nothing in the shard)")


def _read_forward(file: ForwardFile, place: Place, limits: Limits, reader: TarReader) -> bytes | ImageFault:
    try:
        _refuse_lost(place)
        limits.check_bytes(place.second)
        file.skip_to(place.first)
        data = file.read(place.second)
    except ImageFault as fault:
        return fault
    except Exception:  # a remote store broke off: read it by itself, with new tries
        return next(read_each(reader, [place], limits))
    return data if len(data) == place.second else Unreadable("truncated (the shard ends inside it)")


def open_shards(where: str, shards: Sequence[str], ids: Sequence[str]) -> ImageSource:
    """Make a source of the samples of ``shards``; ``ids`` are what the shards are called in ids.

    Shards that are cut, damaged or missing are named in the notes; ``SimcoreError`` where none gives an image.
    """
    indices = index_shards(shards)
    faults = [(name, index.fault) for name, (index, _) in zip(ids, indices, strict=True) if index.fault]
    tables = [index.table for index, _ in indices]
    counts = [table.num_rows for table in tables]
    if not sum(counts):
        reason = f" ({faults[0][0]}: {faults[0][1]})" if faults else ""
        raise SimcoreError(f"{where}: no images in it{reason}")
    joined = pa.concat_tables(tables).combine_chunks()
    labels, classes = _numbered([index for index, _ in indices])
    listing = listing_of(
        ids=_prefixed([f"{escape(name)}/" for name in ids], counts, _column(joined, "member"), strip="./"),
        uris=_chained(_column(joined, "member"), shards, counts),
        labels=labels,
        units=np.repeat(np.arange(len(shards)), counts),
        firsts=_column(joined, "offset").to_numpy(),
        seconds=_column(joined, "size").to_numpy(),
    )
    stamps = [stamp for _, stamp in indices]
    sizes = [size for size, _ in stamps]
    reader = TarReader(tuple(shards), fingerprint(list(ids), stamps), fingerprint(list(ids), sizes))
    notes = _notes([index for index, _ in indices], faults)
    return ImageSource(name=where, classes=classes, listing=listing, readers=(reader,), notes=notes)


def _numbered(indices: Sequence[ShardIndex]) -> tuple[pa.Array, tuple[str, ...]]:
    """Number the labels of all shards together; shards that name their numbers differently are matched by name."""
    names = tuple(dict.fromkeys(name for index in indices for name in index.classes))
    if all(index.classes == names for index in indices):
        return number_labels(parse_labels(pa.concat_arrays([_column(i.table, "label") for i in indices])), names)
    return number_labels(pa.concat_arrays([_named(index) for index in indices]), names)


def _named(index: ShardIndex) -> pa.Array:
    """Replace the numbers that a shard names by their names; other labels stay."""
    labels = _column(index.table, "label")
    numbers = pa.array(map(str, range(len(index.classes))), pa.string())
    found = pc.index_in(labels, value_set=numbers)
    return pc.coalesce(pa.array(index.classes, pa.string()).take(found), labels)


def _column(table: pa.Table, name: str) -> pa.Array:
    column = table[name]
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _prefixed(prefixes: Sequence[str], counts: Sequence[int], names: pa.Array, strip: str) -> pa.Array:
    before = pa.array(prefixes, pa.string()).take(pa.array(np.repeat(np.arange(len(prefixes)), counts)))
    return pc.binary_join_element_wise(before, pc.replace_substring_regex(names, r"^(\./)+", ""), "")


def _chained(names: pa.Array, shards: Sequence[str], counts: Sequence[int]) -> pa.Array:
    """Write uris as fsspec chains: ``tar://MEMBER::SHARD``."""
    behind = pa.array([f"::{shard if is_remote(shard) else escape(shard)}" for shard in shards], pa.string())
    behind = behind.take(pa.array(np.repeat(np.arange(len(shards)), counts)))
    return pc.binary_join_element_wise("tar://", names, behind, "")


def _notes(indices: Iterable[ShardIndex], faults: list[tuple[str, str]]) -> SourceNotes:
    indices = list(indices)
    seconds = sum(index.num_second_images for index in indices)
    without = sum(index.num_without_image for index in indices)
    remarks = []
    if seconds:
        remarks.append(f"{seconds:,} samples hold more than one image; one of each is used")
    if without:
        remarks.append(f"{without:,} samples hold no image and are left out")
    return SourceNotes(
        num_hidden=sum(index.num_hidden for index in indices),
        num_repeated=sum(index.num_repeated for index in indices),
        incomplete=tuple(faults),
        remarks=tuple(remarks),
    )


def index_shards(shards: Sequence[str]) -> list[tuple[ShardIndex, tuple[int, int]]]:
    """Index shards, remote ones several at a time; gives (index, (size, modification stamp)) of each."""
    if not any(is_remote(shard) for shard in shards):
        return [_index_or_fault(shard) for shard in shards]
    with ThreadPoolExecutor(INDEXING_THREADS) as pool:
        return list(pool.map(_index_or_fault, shards))


def member_places(shards: Sequence[str]) -> list[dict[str, tuple[int, int]]]:
    """Give escaped member name -> (offset, size) of the images of each shard; a missing shard is an error."""
    places = []
    for shard, (index, _) in zip(shards, index_shards(shards), strict=True):
        if not index.table.num_rows:
            raise SimcoreError(f"{shard}: {index.fault or 'holds no image'}")
        columns = [index.table[name].to_pylist() for name in ("member", "offset", "size")]
        places.append({name: (offset, size) for name, offset, size in zip(*columns, strict=True)})
    return places


def _index_or_fault(shard: str) -> tuple[ShardIndex, tuple[int, int]]:
    try:
        stamp = stamp_of(shard)
        return kept_index(shard, stamp), stamp
    except Unreadable as fault:
        return empty_index(fault.reason), (-1, -1)
