"""WebDataset shards: tar files whose members share a key (``KEY.jpg``, ``KEY.cls``), read by offset.

A key is a member's name without its last extension, so dots in folders and names never split it. One sample
gives one image. Labels come from ``.cls`` (integer or text), else from an all-integer ``.txt``, else from a
``.json`` with a field such as ``label``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa

from simcore.artifacts.files import fingerprint
from simcore.errors import SimcoreError
from simcore.images.faults import ImageFault, Limits, Unreadable
from simcore.images.formats import IMAGE_EXTENSIONS, OTHER_EXTENSIONS, has_image_signature
from simcore.images.labels import integer_or_none, number_labels, parse_labels
from simcore.images.names import escape
from simcore.images.source import ImageSource, Place, SourceNotes, listing_of, read_each
from simcore.images.storage import is_remote, open_binary, read_range, stamp_of
from simcore.images.tar_index import ForwardFile, Member, TarFault, members
from simcore.images.walk import SNIFFED_BYTES, is_hidden

LABEL_EXTENSIONS = ("cls", "class", "label", "target")
JSON_FIELDS = ("label", "cls", "class", "class_id", "class_name", "category", "target")
MAX_LABEL_BYTES = 1 << 16
INDEXING_THREADS = 16

# Where a sample has several images: photographs before what is usually a mask or a preview of them.
PREFERRED = ("jpg", "jpeg", "webp", "png")
# `KEY.seg.png` beside `KEY.jpg` is another field of KEY and no sample of its own.
SECOND_IMAGES = ("seg", "mask", "depth", "normal", "segmentation", "instance", "semantic", "edge", "trimap", "label")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardIndex:
    """The samples of one shard.

    ``table`` has a row a sample: member (escaped name), offset, size, label (text, null where there is none).
    ``fault`` says why the shard is incomplete; None for a whole one.
    """

    table: pa.Table
    fault: str | None = None
    num_hidden: int = 0
    num_second_images: int = 0
    num_repeated: int = 0
    num_without_image: int = 0


@dataclasses.dataclass(frozen=True)
class TarReader:
    """Reads members by offset (``first``) and size (``second``) from the shard ``unit``."""

    shards: tuple[str, ...]
    fingerprint: str

    def read(self, place: Place, limits: Limits) -> bytes:
        """Fetch one member."""
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
                    yield _read_forward(file, place, limits)


def _read_forward(file: ForwardFile, place: Place, limits: Limits) -> bytes | ImageFault:
    try:
        limits.check_bytes(place.second)
        file.skip_to(place.first)
        data = file.read(place.second)
    except ImageFault as fault:
        return fault
    except OSError as error:
        return Unreadable(f"cannot be read ({error.strerror or error})")
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
    labels, classes = number_labels(parse_labels(_column(joined, "label")))
    listing = listing_of(
        ids=_prefixed([f"{escape(name)}/" for name in ids], counts, _column(joined, "member"), strip="./"),
        uris=_chained(_column(joined, "member"), shards, counts),
        labels=labels,
        units=np.repeat(np.arange(len(shards)), counts),
        firsts=_column(joined, "offset").to_numpy(),
        seconds=_column(joined, "size").to_numpy(),
    )
    stamps = [stamp for _, stamp in indices]
    reader = TarReader(tuple(shards), fingerprint(list(ids), stamps))
    notes = _notes([index for index, _ in indices], faults)
    return ImageSource(name=where, classes=classes, listing=listing, readers=(reader,), notes=notes)


def _column(table: pa.Table, name: str) -> pa.Array:
    column = table[name]
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _prefixed(prefixes: Sequence[str], counts: Sequence[int], names: pa.Array, strip: str) -> pa.Array:
    import pyarrow.compute as pc

    before = pa.array(prefixes, pa.string()).take(pa.array(np.repeat(np.arange(len(prefixes)), counts)))
    return pc.binary_join_element_wise(before, pc.replace_substring_regex(names, r"^(\./)+", ""), "")


def _chained(names: pa.Array, shards: Sequence[str], counts: Sequence[int]) -> pa.Array:
    """Write uris as fsspec chains: ``tar://MEMBER::SHARD``."""
    import pyarrow.compute as pc

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
        return index_shard(shard, stamp[0]), stamp
    except Unreadable as fault:
        return ShardIndex(table=_table([]), fault=fault.reason), (-1, -1)


def index_shard(shard: str, size: int) -> ShardIndex:
    """Read all headers of a shard of ``size`` bytes (-1 unknown) and pair its members into samples."""
    builder = _Samples()
    fault = None
    with open_binary(shard) as raw:
        try:
            for member in members(ForwardFile(raw), size, peek=_bytes_wanted):
                builder.add(member)
        except TarFault as error:
            fault = str(error)
    return builder.index(fault)


def split_key(name: str) -> tuple[str, str]:
    """Split a member's name into key and last extension (lower case, '' where there is none).

    >>> split_key("train.v1/22.05.PNG")
    ('train.v1/22.05', 'png')
    """
    folder, slash, base = name.rpartition("/")
    stem, dot, extension = base.rpartition(".")
    return (f"{folder}{slash}{stem}", extension.lower()) if dot and stem else (name, "")


def _bytes_wanted(name: bytes, size: int) -> int:
    """Labels are read along with the headers; of a file of unknown kind, the signature."""
    extension = split_key(name.decode("latin-1"))[1]
    if extension in LABEL_EXTENSIONS or extension in ("txt", "json"):
        return size if size <= MAX_LABEL_BYTES else 0
    return 0 if extension in IMAGE_EXTENSIONS or extension in OTHER_EXTENSIONS else SNIFFED_BYTES


class _Samples:
    """Pairs members by key; a sample stands where its first member stood."""

    def __init__(self) -> None:
        self._fields: dict[str, dict[str, Member]] = {}
        self._last: str | None = None
        self.num_hidden = self.num_repeated = 0

    def add(self, member: Member) -> None:
        """Note one member; a second one of the same name replaces the first, as unpacking would."""
        name = escape(member.name)
        if any(is_hidden(part) for part in member.name.split(b"/") if part not in (b".", b"..")):
            self.num_hidden += 1
            return
        key, extension = split_key(name)
        fields = self._fields.setdefault(key, {})
        self.num_repeated += extension in fields
        fields[extension] = member
        self._last = key

    def index(self, fault: str | None) -> ShardIndex:
        """Choose image and label of every sample."""
        self._move_second_images()
        images = {key: found for key, fields in self._fields.items() if (found := _images(fields))}
        if fault and self._last in images and self._common(images, self._last) - set(self._fields[self._last]):
            del images[self._last]  # the cut took a part of it
        rows = [
            (escape(member.name), member.offset, member.size, _label(self._fields[key]))
            for key, (member, *_) in images.items()
        ]
        return ShardIndex(
            table=_table(rows),
            fault=fault,
            num_hidden=self.num_hidden,
            num_second_images=sum(len(found) > 1 for found in images.values()),
            num_repeated=self.num_repeated,
            num_without_image=0
            if fault
            else sum(_holds_label(self._fields[key]) for key in self._fields.keys() - images.keys()),
        )

    def _move_second_images(self) -> None:
        for key in [key for key in self._fields if key.rpartition(".")[2] in SECOND_IMAGES]:
            owner, _, part = key.rpartition(".")
            if _images(self._fields.get(owner, {})):
                for extension, member in self._fields.pop(key).items():
                    self._fields[owner][f"{part}.{extension}"] = member

    def _common(self, images: Iterable[str], last: str) -> set[str]:
        """Give the non-image fields that every sample but the last has."""
        others = [set(self._fields[key]) for key in images if key != last]
        shared = set.intersection(*others) if others else set()
        return shared - IMAGE_EXTENSIONS


def _images(fields: dict[str, Member]) -> list[Member]:
    """Give the images of a sample, the one to use first."""
    named = [extension for extension in fields if extension in IMAGE_EXTENSIONS]
    named.sort(key=lambda extension: PREFERRED.index(extension) if extension in PREFERRED else len(PREFERRED))
    if named:
        return [fields[extension] for extension in named]
    return [m for e, m in fields.items() if e not in OTHER_EXTENSIONS and has_image_signature(m.start)]


def _holds_label(fields: dict[str, Member]) -> bool:
    return any(extension in fields for extension in LABEL_EXTENSIONS)


def _label(fields: dict[str, Member]) -> str | None:
    for extension in LABEL_EXTENSIONS:
        if (member := fields.get(extension)) is not None:
            return escape(member.start.strip()) or None
    if (member := fields.get("txt")) is not None:
        number = integer_or_none(member.start[:20].decode("latin-1").strip())
        if number is not None:
            return str(number)
    return _json_label(fields["json"].start) if "json" in fields else None


def _json_label(data: bytes) -> str | None:
    try:
        content: Any = json.loads(data)
    except ValueError:
        return None
    if isinstance(content, dict):
        content = next((content[field] for field in JSON_FIELDS if field in content), None)
    if isinstance(content, bool) or not isinstance(content, int | str):
        return None
    return str(content).strip() or None


def _table(rows: list[tuple[str, int, int, str | None]]) -> pa.Table:
    names, offsets, sizes, labels = zip(*rows, strict=True) if rows else ((), (), (), ())
    arrays = [pa.array(names, pa.string()), pa.array(offsets, pa.int64()), pa.array(sizes, pa.int64())]
    return pa.table([*arrays, pa.array(labels, pa.string())], names=["member", "offset", "size", "label"])
