"""Listings kept in the user's cache folder, so that huge folders and shards open in seconds the second time.

An entry is an Arrow file named by a hash of what was listed. It is only a copy: a missing, damaged or unwritable
cache costs time and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import pyarrow as pa

from simcore.artifacts.files import fingerprint, written_aside
from simcore.errors import SimcoreError

CACHE_FORMAT = 1
MAX_BYTES = 4 << 30
MAX_AGE_SECONDS = 90 * 24 * 3600.0
TIDY_EVERY_SECONDS = 3600.0
SETTLING_SECONDS = 2  # file systems tell times apart no better than this


def cache_folder() -> Path:
    """Give ``$SIMCORE_CACHE``, else ``simcore`` in the user's cache folder (``$XDG_CACHE_HOME``, ``~/.cache``)."""
    if own := os.environ.get("SIMCORE_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "simcore"


def recall(*key: object) -> pa.Table | None:
    """Give the table kept under ``key``, or None."""
    path = _path(key)
    try:
        with pa.memory_map(str(path)) as file:
            table = pa.ipc.open_file(file).read_all()
        os.utime(path)
    except (OSError, pa.ArrowException, RuntimeError):
        return None
    return table


def keep(table: pa.Table, *key: object) -> None:
    """Keep a table under ``key`` if the cache can be written, and drop what has not been used for long."""
    with contextlib.suppress(OSError, SimcoreError, RuntimeError):
        path = _path(key)
        with written_aside(path) as aside, pa.ipc.new_file(str(aside), table.schema) as writer:
            writer.write_table(table)
        _tidy(path.parent)


def settled(mtime_ns: int) -> bool:
    """Tell whether a modification time is old enough that a later change must show in it."""
    return time.time_ns() - mtime_ns > SETTLING_SECONDS * 1_000_000_000


def _path(key: tuple[object, ...]) -> Path:
    return cache_folder() / "listings" / f"{fingerprint(CACHE_FORMAT, list(key))}.arrow"


def _tidy(folder: Path) -> None:
    """Drop old and surplus entries, once in a while: the folder may hold thousands."""
    mark = folder / ".tidied"
    if mark.exists() and time.time() - mark.stat().st_mtime < TIDY_EVERY_SECONDS:
        return
    mark.touch()
    found = ((entry.stat(), entry.path) for entry in os.scandir(folder) if entry.name.endswith(".arrow"))
    entries = sorted(found, key=lambda entry: -entry[0].st_mtime)
    total, oldest = 0, time.time() - MAX_AGE_SECONDS
    for status, path in entries:
        total += status.st_size
        if total > MAX_BYTES or status.st_mtime < oldest:
            os.unlink(path)  # noqa: PTH108
