"""The samples of one tar shard: its members paired by key, with image and label chosen."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from simcore.artifacts.files import parse_json
from simcore.images.cache import keep, recall, settled
from simcore.images.formats import IMAGE_EXTENSIONS, OTHER_EXTENSIONS, has_image_signature
from simcore.images.labels import integer_or_none
from simcore.images.names import escape
from simcore.images.storage import is_remote, open_binary, retried
from simcore.images.tar_index import NOWHERE, ForwardFile, Member, TarFault, members
from simcore.images.walk import SNIFFED_BYTES, is_hidden

LABEL_EXTENSIONS = ("cls", "class", "label", "target")
JSON_FIELDS = ("label", "cls", "class", "class_id", "class_name", "category", "target")
MAX_LABEL_BYTES = 1 << 16
# Readers of WebDataset take a member whose name begins and ends with two underscores for no sample; in ours, this one
# holds the class names that the label numbers of the shard stand for, as a JSON list.
CLASSES_MEMBER = "__classes__"
MAX_CLASSES_BYTES = 1 << 24
MIN_KEPT_ROWS = 50  # shards of fewer samples are read again as quickly as the cache

# Where a sample has several images: photographs before what is usually a mask or a preview of them.
PREFERRED = ("jpg", "jpeg", "webp", "png")
# `KEY.seg.png` beside `KEY.jpg` is another field of KEY and no sample of its own.
SECOND_IMAGES = ("seg", "mask", "depth", "normal", "segmentation", "instance", "semantic", "edge", "trimap", "label")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardIndex:
    """The samples of one shard.

    ``table`` has a row a sample: member (escaped name), offset, size, label (text, null where there is none).
    ``fault`` says why the shard is incomplete; None for a whole one. ``classes`` names the label numbers where the
    shard says so.
    """

    table: pa.Table
    fault: str | None = None
    num_hidden: int = 0
    num_second_images: int = 0
    num_repeated: int = 0
    num_without_image: int = 0
    classes: tuple[str, ...] = ()

    def to_table(self) -> pa.Table:
        """Put everything into one table, for the cache."""
        rest = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "table"}
        return self.table.replace_schema_metadata({"index": json.dumps(rest)})

    @classmethod
    def from_table(cls, table: pa.Table) -> ShardIndex:
        """Undo :meth:`to_table`."""
        rest = json.loads(table.schema.metadata[b"index"])
        classes = tuple(rest.pop("classes", ()))
        return cls(table=table.replace_schema_metadata(None), classes=classes, **rest)


def kept_index(shard: str, stamp: tuple[int, int]) -> ShardIndex:
    """Index a shard of (size, modification stamp), or take the index from the cache if the stamp is the same."""
    known = recall("shard", shard, *stamp) if stamp[1] >= 0 else None
    if known is not None:
        return ShardIndex.from_table(known)
    index = retried(shard, lambda: index_shard(shard, stamp[0]))
    if stamp[1] >= 0 and (is_remote(shard) or (index.table.num_rows >= MIN_KEPT_ROWS and settled(stamp[1]))):
        keep(index.to_table(), "shard", shard, *stamp)
    return index


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


def empty_index(fault: str) -> ShardIndex:
    """Stand for a shard that cannot be read at all."""
    return ShardIndex(table=_table([]), fault=fault)


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
    if name == CLASSES_MEMBER.encode():
        return size if size <= MAX_CLASSES_BYTES else 0
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
        self._classes: tuple[str, ...] = ()

    def add(self, member: Member) -> None:
        """Note one member; a second one of the same name replaces the first, as unpacking would."""
        if member.name == CLASSES_MEMBER.encode():
            self._classes = _class_names(member.start)
            return
        name = escape(member.name)
        if any(is_hidden(part) for part in member.name.split(b"/") if part not in (b".", b"..")):
            self.num_hidden += 1
            return
        key, extension = split_key(name)
        if member.size == NOWHERE and extension not in IMAGE_EXTENSIONS:
            return
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
            classes=self._classes,
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


def _class_names(data: bytes) -> tuple[str, ...]:
    try:
        names = parse_json(data)
    except ValueError:
        return ()
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _json_label(data: bytes) -> str | None:
    try:
        content: Any = parse_json(data)
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
