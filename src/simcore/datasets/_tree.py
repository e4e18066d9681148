"""The files of a data set as published, searched by the names that its makers gave them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from simcore.errors import SimcoreError
from simcore.images.formats import IMAGE_EXTENSIONS

MAX_DEPTH = 3
MANY_FOLDERS = 64
SUFFIXES = tuple(f".{extension}" for extension in IMAGE_EXTENSIONS)


class Tree:
    """One or more folders looked at as one; a file is found at whatever depth people unpacked it.

    Only folders that are not themselves full of class folders are looked into, so a set of a million images costs
    nothing to search.
    """

    def __init__(self, roots: Sequence[Path], *, beside: Sequence[Path] = (), called: str = "", hint: str = "") -> None:
        """Take existing folders, and folders ``beside`` them that are looked at but not into.

        ``called`` is what messages call them all, and ``hint`` ends the message about a file that is not there.
        """
        self.roots = tuple(roots)
        self.called = called or " ".join(map(str, self.roots))
        self.hint = hint
        self._shelves = [*(shelf for root in roots for shelf in _shelves(root)), *beside]

    def find(self, *names: str) -> Path | None:
        """Give the first of ``names`` (each may hold ``/``) that exists, the shallowest place first."""
        for name in names:
            for shelf in self._shelves:
                if (shelf / name).exists():
                    return shelf / name
        return None

    def need(self, *names: str) -> Path:
        """Like :meth:`find`, but a missing file is a clear error."""
        found = self.find(*names)
        if found is None:
            wanted = " or ".join(f"'{name}'" for name in names)
            raise SimcoreError(f"{self.called}: no {wanted} there{self.hint}")
        return found

    def lines(self, *names: str) -> list[str]:
        """Read the lines of a text file, without blank ones."""
        text = self.need(*names).read_text("utf-8", errors="surrogateescape")
        return [line.strip() for line in text.splitlines() if line.strip()]

    def mat(self, *names: str) -> dict[str, Any]:
        """Read a MATLAB file of a version before 7.3."""
        from scipy.io import loadmat

        path = self.need(*names)
        try:
            content: dict[str, Any] = loadmat(path, squeeze_me=True)
        except Exception as error:  # scipy raises many kinds on damaged files
            raise SimcoreError(f"{path}: not a readable MATLAB file ({error})") from error
        return content

    def folder_holding(self, pattern: str, *, avoid: Sequence[str] = ("val", "test")) -> Path | None:
        """Find the folder whose sub-folders bear names that match ``pattern``."""
        wanted = re.compile(pattern)
        for shelf in self._shelves:
            if shelf.name in avoid:
                continue
            with os.scandir(shelf) as entries:
                if any(wanted.fullmatch(entry.name) and entry.is_dir() for entry in entries):
                    return shelf
        return None


def _shelves(root: Path) -> list[Path]:
    """List the folders worth searching below ``root``, breadth first, in name order."""
    found, level = [root], [root]
    for _ in range(MAX_DEPTH):
        level = [child for folder in level for child in _few_folders(folder)]
        found += level
    return found


def _few_folders(folder: Path) -> list[Path]:
    """List the sub-folders, or nothing where they are so many that they must be classes."""
    held: list[Path] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir() and not is_hidden(entry.name):
                held.append(folder / entry.name)
                if len(held) > MANY_FOLDERS:
                    return []
    return sorted(held)


def is_hidden(name: str) -> bool:
    """Tell the companions that desktops leave beside files (``._x``, ``.DS_Store``, ``__MACOSX``)."""
    return name.startswith(".") or name == "__MACOSX"


def walk(folder: str | os.PathLike[str]) -> Iterator[tuple[str, str]]:
    """Give every image below ``folder`` as (its folder relative to ``folder``, absolute path), in name order."""
    yield from _walk(os.path.abspath(folder), "")  # noqa: PTH100 - str paths: this may run over 10^7 files


def _walk(folder: str, inner: str) -> Iterator[tuple[str, str]]:
    with os.scandir(folder) as entries:
        listed = sorted((entry.name, entry.is_dir()) for entry in entries if not is_hidden(entry.name))
    for name, is_folder in listed:
        if is_folder:
            yield from _walk(f"{folder}/{name}", f"{inner}/{name}" if inner else name)
        elif name.lower().endswith(SUFFIXES):
            yield inner, f"{folder}/{name}"
