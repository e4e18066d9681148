"""Tree: what a walk through a folder found, small enough for millions of files."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import numpy.typing as npt
import pyarrow as pa

FLUSH_EVERY = 100_000
ROW_NAMES = ["id", "folder", "size", "stamp"]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Tree:
    """What a walk found.

    Attributes:
        ids: escaped path of each image relative to the root, in byte order of the unescaped path [n].
        folders: escaped relative path of every visible folder; '' is the root.
        folder_of: index into ``folders`` of each image [n].
        sizes, stamps: bytes and modification stamp of each image, -1 where unknown [n].
        num_others: files in each folder that are no images [len(folders)].
        num_hidden: hidden files passed over.
        incomplete: folders that could not be read, as (escaped path, reason).
        remarks: oddities worth a warning.
        folder_stamps: modification time of each folder in nanoseconds, -1 where unknown [len(folders)].
    """

    ids: pa.ChunkedArray
    folders: list[str]
    folder_of: npt.NDArray[np.int32]
    sizes: npt.NDArray[np.int64]
    stamps: npt.NDArray[np.int64]
    num_others: npt.NDArray[np.int64]
    num_hidden: int
    incomplete: tuple[tuple[str, str], ...]
    remarks: tuple[str, ...]
    folder_stamps: npt.NDArray[np.int64]

    def to_table(self) -> pa.Table:
        """Put everything into one table, for the cache."""
        columns = [self.ids, pa.array(self.folder_of), pa.array(self.sizes), pa.array(self.stamps)]
        rest = {
            "folders": self.folders,
            "num_others": self.num_others.tolist(),
            "folder_stamps": self.folder_stamps.tolist(),
            "num_hidden": self.num_hidden,
            "incomplete": self.incomplete,
            "remarks": self.remarks,
        }
        return pa.table(columns, names=ROW_NAMES).replace_schema_metadata({"tree": json.dumps(rest)})

    @classmethod
    def from_table(cls, table: pa.Table) -> Tree:
        """Undo :meth:`to_table`."""
        rest = json.loads(table.schema.metadata[b"tree"])
        folder_of, sizes, stamps = (table[name].to_numpy() for name in ROW_NAMES[1:])
        return cls(
            ids=table["id"],
            folders=rest["folders"],
            folder_of=folder_of,
            sizes=sizes,
            stamps=stamps,
            num_others=np.asarray(rest["num_others"], np.int64),
            folder_stamps=np.asarray(rest["folder_stamps"], np.int64),
            num_hidden=rest["num_hidden"],
            incomplete=tuple((name, reason) for name, reason in rest["incomplete"]),
            remarks=tuple(rest["remarks"]),
        )


class TreeBuilder:
    """Collects a Tree; rows go into Arrow in large pieces, so that a million files stay small."""

    def __init__(self) -> None:
        self.folders: list[str] = []
        self.others: list[int] = []
        self._folder_stamps: list[int] = []
        self.num_hidden = 0
        self.incomplete: list[tuple[str, str]] = []
        self.remarks: list[str] = []
        self._rows: list[tuple[str, int, int, int]] = []
        self._chunks: list[pa.RecordBatch] = []

    def enter(self, folder: str, stamp: int = -1) -> int:
        """Note a folder and give its index."""
        self.folders.append(folder)
        self.others.append(0)
        self._folder_stamps.append(stamp)
        return len(self.folders) - 1

    def add(self, path: str, folder: int, size: int, stamp: int) -> None:
        """Note an image."""
        self._rows.append((path, folder, size, stamp))
        if len(self._rows) >= FLUSH_EVERY:
            self._flush()

    def _flush(self) -> None:
        paths, folders, sizes, stamps = zip(*self._rows, strict=True) if self._rows else ((), (), (), ())
        arrays = [pa.array(paths, pa.string()), pa.array(folders, pa.int32())]
        arrays += [pa.array(numbers, pa.int64()) for numbers in (sizes, stamps)]
        self._chunks.append(pa.RecordBatch.from_arrays(arrays, names=ROW_NAMES))
        self._rows = []

    def tree(self) -> Tree:
        """Give what was collected."""
        self._flush()
        table = pa.Table.from_batches(self._chunks)
        return Tree(
            ids=table["id"],
            folders=self.folders,
            folder_of=table["folder"].to_numpy(),
            sizes=table["size"].to_numpy(),
            stamps=table["stamp"].to_numpy(),
            num_others=np.asarray(self.others, np.int64),
            num_hidden=self.num_hidden,
            incomplete=tuple(self.incomplete),
            remarks=tuple(self.remarks),
            folder_stamps=np.asarray(self._folder_stamps, np.int64),
        )
