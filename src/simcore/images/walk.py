"""Walk a folder, local or remote: every image file once, in the byte order of the paths."""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from simcore.errors import SimcoreError
from simcore.images.faults import Unreadable
from simcore.images.formats import IMAGE_EXTENSIONS, OTHER_EXTENSIONS, has_image_signature
from simcore.images.names import escape
from simcore.images.storage import is_remote, os_reason, read_start, remotely, stamp_of_info

# Files and folders that operating systems and cameras leave behind, besides all names with a leading dot.
HIDDEN_NAMES = (
    b"thumbs.db", b"ehthumbs.db", b"desktop.ini", b"icon\r", b"__macosx", b"@eadir", b"lost+found", b"$recycle.bin",
    b"system volume information",
)  # fmt: skip
SNIFFED_BYTES = 32
FLUSH_EVERY = 100_000

_IMAGE = frozenset(extension.encode() for extension in IMAGE_EXTENSIONS)
_OTHER = frozenset(extension.encode() for extension in OTHER_EXTENSIONS)


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


class _Builder:
    """Collects a Tree; rows go into Arrow in large pieces, so that a million files stay small."""

    def __init__(self) -> None:
        self.folders: list[str] = []
        self.others: list[int] = []
        self.num_hidden = 0
        self.incomplete: list[tuple[str, str]] = []
        self.remarks: list[str] = []
        self._rows: list[tuple[str, int, int, int]] = []
        self._chunks: list[pa.RecordBatch] = []

    def enter(self, folder: str) -> int:
        """Note a folder and give its index."""
        self.folders.append(folder)
        self.others.append(0)
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
        self._chunks.append(pa.RecordBatch.from_arrays(arrays, names=["id", "folder", "size", "stamp"]))
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
        )


def walk(root: str) -> Tree:
    """Walk a local folder or a URL; ``SimcoreError`` where the root itself cannot be listed."""
    builder = _Builder()
    if is_remote(root):
        _walk_remote(root, builder)
    else:
        _walk_local(os.fsencode(root), builder)
    return builder.tree()


def is_hidden(name: bytes) -> bool:
    """Tell the names that are passed over, as files and as folders."""
    return name.startswith(b".") or name.lower() in HIDDEN_NAMES


def extension_says(name: bytes) -> bool | None:
    """Tell by its extension whether a file is an image; None where only the content can tell."""
    extension = name.rpartition(b".")[2].lower() if b"." in name else b""
    if extension in _IMAGE:
        return True
    return False if extension in _OTHER or name.endswith(b"~") else None


class _Frame(NamedTuple):
    """A folder whose entries are being walked."""

    number: int
    identity: tuple[int, int]  # (device, inode): a link back to a folder further up is a loop
    entries: Iterator[tuple[bytes, os.DirEntry[bytes]]]


def _walk_local(root: bytes, builder: _Builder) -> None:
    """Depth first, where a folder sorts as its name with a slash: this is the byte order of whole paths."""
    stack: list[_Frame] = []
    _enter(root, b"", builder, stack)
    if not stack:
        raise SimcoreError(f"{escape(root)}: cannot be listed ({builder.incomplete[0][1]})")
    while stack:
        for relative, entry in stack[-1].entries:
            if _is_folder(entry):
                _enter(entry.path, relative, builder, stack)
                break
            _add_file(relative, entry, stack[-1].number, builder)
        else:
            stack.pop()


def _enter(path: bytes, relative: bytes, builder: _Builder, stack: list[_Frame]) -> None:
    name = escape(relative)
    try:
        status = os.stat(path)  # noqa: PTH116 - bytes paths
        with os.scandir(path) as listed:
            entries = sorted(listed, key=_sort_key)
    except OSError as error:
        builder.incomplete.append((name, os_reason(error)))
        return
    identity = (status.st_dev, status.st_ino)
    if any(identity == frame.identity for frame in stack):
        builder.remarks.append(f"folder '{name}' is a link back to a folder above it and is not followed")
        return
    prefix = relative + b"/" if relative else b""
    visible = ((prefix + entry.name, entry) for entry in entries if not _count_if_hidden(entry, builder))
    stack.append(_Frame(builder.enter(name), identity, visible))


def _sort_key(entry: os.DirEntry[bytes]) -> bytes:
    return entry.name + b"/" if _is_folder(entry) else entry.name


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _count_if_hidden(entry: os.DirEntry[bytes], builder: _Builder) -> bool:
    if not is_hidden(entry.name):
        return False
    if entry.is_dir(follow_symlinks=False):
        builder.num_hidden += sum(len(files) for _, _, files in os.walk(entry.path))
    else:
        builder.num_hidden += 1
    return True


def _add_file(relative: bytes, entry: os.DirEntry[bytes], folder: int, builder: _Builder) -> None:
    """Note a file as image or as other; a broken link under an image's name is listed and fails when read."""
    try:
        status = entry.stat()
    except OSError:
        size, stamp, regular = -1, -1, extension_says(entry.name) is True
    else:
        size, stamp, regular = status.st_size, status.st_mtime_ns, stat.S_ISREG(status.st_mode)
    if regular and _is_image(entry.name, entry.path):
        builder.add(escape(relative), folder, size, stamp)
    else:
        builder.others[folder] += 1


def _is_image(name: bytes, path: bytes | str) -> bool:
    said = extension_says(name)
    if said is not None:
        return said
    try:
        return has_image_signature(read_start(path if isinstance(path, str) else os.fsdecode(path), SNIFFED_BYTES))
    except Unreadable:
        return False


def _walk_remote(url: str, builder: _Builder) -> None:
    """List every object below a URL; folders are what the names say."""
    try:
        found = remotely(url, _find)
    except Unreadable as fault:
        raise SimcoreError(f"{url}: cannot be listed ({fault.reason})") from fault
    numbers = {"": builder.enter("")}
    for relative, info in sorted((os.fsencode(path), info) for path, info in found.items()):
        *above, name = relative.split(b"/")
        if any(is_hidden(part) for part in (*above, name)):
            builder.num_hidden += 1
            continue
        folder = escape(b"/".join(above))
        if folder not in numbers:
            numbers[folder] = builder.enter(folder)
        if _is_image(name, f"{url.rstrip('/')}/{os.fsdecode(relative)}"):
            builder.add(escape(relative), numbers[folder], *stamp_of_info(info))
        else:
            builder.others[numbers[folder]] += 1


def _find(system: Any, path: str) -> dict[str, dict[str, Any]]:
    """Give relative path -> info of every file below ``path``; a missing folder raises FileNotFoundError."""
    root = path.rstrip("/")
    found = system.find(root, detail=True)
    files = {str(name): info for name, info in found.items() if str(name).rstrip("/") != root}
    if not files and not system.exists(root):
        raise FileNotFoundError(root)
    return {name.partition(root + "/")[2]: info for name, info in files.items() if root + "/" in name}
