"""The files of an export: a folder per class, tar shards, or Parquet tables."""

from __future__ import annotations

import abc
import csv
import io
import json
import os
import re
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from simcore.images.names import escape, unescape
from simcore.images.samples import CLASSES_MEMBER

ROWS_PER_GROUP = 1000
GROUP_BYTES = 512 << 20
STEM_BYTES = 160  # of the 255 that file systems allow; rank and ending come to it


class Item(NamedTuple):
    """One image on its way out; what is not known is None."""

    data: bytes
    extension: str
    id: str
    uri: str
    rank: int
    similarity: float | None
    round: int | None
    cluster: int | None
    label: int | None
    class_name: str | None

    @property
    def provenance(self) -> dict[str, Any]:
        """Everything but the picture and its label."""
        keys = ("id", "uri", "rank", "similarity", "round", "cluster")
        return {key: getattr(self, key) for key in keys}


class Writer(abc.ABC):
    """Puts items into files of one kind."""

    source = ""
    """Where, below the folder, the images open again as a source in the same order; "" for the folder itself."""
    num_files = num_images = num_bytes = 0

    def put(self, item: Item) -> None:
        """Write one image and count it."""
        self.add(item)
        self.num_images += 1
        self.num_bytes += len(item.data)

    @abc.abstractmethod
    def add(self, item: Item) -> None:
        """Write one image."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close whatever is open, whether the job is done or not."""

    def finish(self) -> None:
        """Write what is still held back."""
        self.close()


class FolderWriter(Writer):
    """One file an image below its class, and a list of all in pick order."""

    source = "manifest.csv"
    COLUMNS = ("path", "label", "rank", "similarity", "round", "cluster", "id", "uri")

    def __init__(self, folder: Path, *, width: int) -> None:
        self._folder, self._width, self._names = folder, width, FolderNames(self.source)
        self._file = (folder / self.source).open("w", encoding="utf-8", errors="surrogateescape", newline="")
        self._list = csv.writer(self._file, lineterminator="\n")
        self._list.writerow(self.COLUMNS)

    def add(self, item: Item) -> None:
        """Write the file and its line."""
        name = f"{item.rank:0{self._width}d}_{_stem(item.id)}.{item.extension}"
        path = name if item.class_name is None else f"{self._names.name(item.class_name)}/{name}"
        target = self._folder / path
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(item.data)
        self.num_files += 1
        why = item.provenance
        self._list.writerow([path, item.class_name or "", *(why[column] for column in self.COLUMNS[2:])])

    def close(self) -> None:
        """Close the list."""
        self._file.close()


class ShardWriter(Writer):
    """Tar shards in which nothing depends on when or by whom they were written.

    Labels are numbers, as readers of shards expect them; the class names stand in a member of their own at the
    start of each shard, under a name that the WebDataset format reserves for what is no sample.
    """

    def __init__(self, folder: Path, shard_bytes: int, classes: tuple[str, ...], *, width: int) -> None:
        self._folder, self._limit, self._width, self._size = folder, shard_bytes, width, 0
        self._classes = json.dumps(classes, ensure_ascii=False).encode() if classes else b""
        self._tar: tarfile.TarFile | None = None

    def add(self, item: Item) -> None:
        """Write the members of one sample, into the next shard where this one is full."""
        if self._tar is None or self._size + len(item.data) > self._limit:
            self._next()
        key = f"{item.rank:0{self._width}d}"
        self._member(f"{key}.{item.extension}", item.data)
        if item.label is not None:
            self._member(f"{key}.cls", str(item.label).encode())
        self._member(f"{key}.json", json.dumps(item.provenance, ensure_ascii=False).encode())

    def close(self) -> None:
        """Close the shard that is open."""
        if self._tar is not None:
            self._tar.close()

    def _next(self) -> None:
        self.close()
        path = self._folder / f"shard-{self.num_files:06d}.tar"
        self._tar = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 - see close
        self.num_files += 1
        if self._classes:
            self._member(CLASSES_MEMBER, self._classes)
        self._size = 0

    def _member(self, name: str, data: bytes) -> None:
        assert self._tar is not None
        member = tarfile.TarInfo(name)
        member.size, member.mtime, member.mode = len(data), 0, 0o644
        self._tar.addfile(member, io.BytesIO(data))
        self._size += len(data)


class TableWriter(Writer):
    """Parquet files as the Hugging Face `datasets` library writes them."""

    def __init__(self, folder: Path, shard_bytes: int, classes: tuple[str, ...]) -> None:
        self._folder, self._limit, self._schema = folder, shard_bytes, _schema(classes)
        self._file: pq.ParquetWriter | None = None
        self._rows: list[Item] = []
        self._size = self._group_size = 0

    def add(self, item: Item) -> None:
        """Gather a row group; begin the next file where this one is full."""
        if self._size and self._size + len(item.data) > self._limit:
            self._flush()
            self.close()
        self._rows.append(item)
        self._size += len(item.data)
        self._group_size += len(item.data)
        if len(self._rows) == ROWS_PER_GROUP or self._group_size >= GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        """Close the file that is open."""
        if self._file is not None:
            self._file.close()
        self._file, self._size = None, 0

    def finish(self) -> None:
        """Write the last rows, and give the files their names, which say how many there are."""
        self._flush()
        self.close()
        for number in range(self.num_files):
            path = self._folder / f"{number:05d}.parquet"
            path.rename(self._folder / f"data-{number:05d}-of-{self.num_files:05d}.parquet")

    def _flush(self) -> None:
        if not self._rows:
            return
        if self._file is None:
            self._file = pq.ParquetWriter(self._folder / f"{self.num_files:05d}.parquet", self._schema)
            self.num_files += 1
        self._file.write_table(_table(self._rows, self._schema), row_group_size=ROWS_PER_GROUP)
        self._rows, self._group_size = [], 0


def _schema(classes: tuple[str, ...]) -> pa.Schema:
    """Columns and what the Hugging Face library is told of them."""
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    kinds = {"id": "string", "uri": "string", "rank": "int64", "similarity": "float32", "round": "int32"}
    kinds["cluster"] = "int32"
    features: dict[str, Any] = {name: {"dtype": kind, "_type": "Value"} for name, kind in kinds.items()}
    label = {"names": list(classes), "_type": "ClassLabel"} if classes else {"dtype": "int64", "_type": "Value"}
    features = {"image": {"_type": "Image"}, "label": label, **features}
    content = json.dumps({"info": {"features": features}}, ensure_ascii=False)
    fields = [("image", image), ("label", pa.int64()), *((n, pa.type_for_alias(kind)) for n, kind in kinds.items())]
    return pa.schema(fields, metadata={"huggingface": content})


def _table(items: list[Item], schema: pa.Schema) -> pa.Table:
    images = [{"bytes": item.data, "path": f"{_stem(item.id)}.{item.extension}"} for item in items]
    columns = [images, [item.label for item in items]]
    columns += [[item.provenance[name] for item in items] for name in schema.names[2:]]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


class FolderNames:
    """Folder names for classes: one for each, the class name itself wherever a file system can hold it."""

    def __init__(self, *taken: str) -> None:
        """Leave out names that are ``taken`` already."""
        self._names: dict[str, str] = {}
        self._taken = set(taken)

    def name(self, label: str) -> str:
        """Give the folder of a class."""
        if label not in self._names:
            plain = safe_name(label)
            options = [plain, *(f"{plain}~{number}" for number in range(2, len(self._taken) + 3))]
            self._names[label] = next(option for option in options if option not in self._taken)
            self._taken.add(self._names[label])
        return self._names[label]


def safe_name(label: str) -> str:
    """Make one folder name of any text: no slash, no leading dot, not too long.

    >>> safe_name("F-16A/B"), safe_name(".."), safe_name("caf%E9") == "caf\\udce9"
    ('F-16A_B', '_.', True)
    """
    name = unescape(label) if escape(unescape(label)) == label else label
    name = re.sub(r"[/\\\0]", "_", name)
    name = re.sub(r"^\.", "_", name) or "_"
    return os.fsdecode(os.fsencode(name)[:200])


def _stem(id: str) -> str:
    """Take from an id what may stand in a file name anywhere."""
    base = id.rstrip("/").rpartition("/")[2]
    stem = f"row{base.rpartition('#')[2]}" if "#" in base else base.rpartition(".")[0] or base
    return re.sub(r"[^\w.-]+", "_", stem).encode()[:STEM_BYTES].decode(errors="ignore")
