"""Walk a folder, local or remote: every image file once, in the byte order of the paths."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from simcore.errors import SimcoreError
from simcore.images.cache import keep, recall, settled
from simcore.images.faults import Unreadable
from simcore.images.formats import IMAGE_EXTENSIONS, OTHER_EXTENSIONS, has_image_signature
from simcore.images.names import escape, unescape
from simcore.images.storage import is_remote, os_reason, read_start, remotely, stamp_of, stamp_of_info
from simcore.images.tree import Tree, TreeBuilder

# Files and folders that operating systems and cameras leave behind, besides all names with a leading dot.
HIDDEN_NAMES = (
    b"thumbs.db", b"ehthumbs.db", b"desktop.ini", b"icon\r", b"__macosx", b"@eadir", b"lost+found", b"$recycle.bin",
    b"system volume information",
)  # fmt: skip
SNIFFED_BYTES = 32
MIN_KEPT_FILES = 10_000  # smaller folders are walked again as quickly as the cache
CHECKED_FILES = 1000


_IMAGE = frozenset(extension.encode() for extension in IMAGE_EXTENSIONS)
_OTHER = frozenset(extension.encode() for extension in OTHER_EXTENSIONS)


def walk(root: str) -> Tree:
    """Walk a local folder or a URL; ``SimcoreError`` where the root itself cannot be listed."""
    builder = TreeBuilder()
    if is_remote(root):
        _walk_remote(root, builder)
        return builder.tree()
    place = escape(os.path.abspath(root))  # noqa: PTH100 - may not be UTF-8
    known = recall("folder", place)
    if known is not None and _is_current(root, tree := Tree.from_table(known)):
        return tree
    _walk_local(os.fsencode(root), builder)
    tree = builder.tree()
    if len(tree.ids) >= MIN_KEPT_FILES and not tree.incomplete and all(map(settled, tree.folder_stamps.tolist())):
        keep(tree.to_table(), "folder", place)
    return tree


def _is_current(root: str, tree: Tree) -> bool:
    """Tell whether a kept listing still holds: no folder has changed, nor any of a thousand files spread over it.

    A file added, removed or renamed changes its folder; one rewritten in place changes only itself, which the
    files looked at give away if many were.
    """
    rows = np.unique(np.linspace(0, len(tree.ids) - 1, CHECKED_FILES).astype(np.int64))
    files = zip(tree.ids.take(pa.array(rows)).to_pylist(), tree.sizes[rows], tree.stamps[rows], strict=True)
    try:
        folders = zip(tree.folders, tree.folder_stamps.tolist(), strict=True)
        if any(stamp_of(_below(root, name))[1] != stamp for name, stamp in folders):
            return False
        return all(size < 0 or stamp_of(_below(root, name)) == (size, stamp) for name, size, stamp in files)
    except Unreadable:
        return False


def _below(root: str, name: str) -> str:
    return f"{root}/{unescape(name)}" if name else root


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


def _walk_local(root: bytes, builder: TreeBuilder) -> None:
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


def _enter(path: bytes, relative: bytes, builder: TreeBuilder, stack: list[_Frame]) -> None:
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
    stack.append(_Frame(builder.enter(name, status.st_mtime_ns), identity, visible))


def _sort_key(entry: os.DirEntry[bytes]) -> bytes:
    return entry.name + b"/" if _is_folder(entry) else entry.name


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _count_if_hidden(entry: os.DirEntry[bytes], builder: TreeBuilder) -> bool:
    if not is_hidden(entry.name):
        return False
    if entry.is_dir(follow_symlinks=False):
        builder.num_hidden += sum(len(files) for _, _, files in os.walk(entry.path))
    else:
        builder.num_hidden += 1
    return True


def _add_file(relative: bytes, entry: os.DirEntry[bytes], folder: int, builder: TreeBuilder) -> None:
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


def _walk_remote(url: str, builder: TreeBuilder) -> None:
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
