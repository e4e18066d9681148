"""A folder that is whole or absent."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from simcore.errors import SimcoreError


@contextlib.contextmanager
def whole_folder(place: str | os.PathLike[str]) -> Iterator[Path]:
    """Give an empty folder beside ``place``; rename it into place on success, remove it on failure.

    ``SimcoreError`` where ``place`` exists and is not an empty folder, or the disk gives no room.
    """
    final = Path(place)
    if final.exists() and not (final.is_dir() and not any(final.iterdir())):
        raise SimcoreError(f"{final}: exists already; remove it or choose another place")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".tmp", dir=final.parent))
    except OSError as error:
        raise SimcoreError(f"{final}: cannot be written ({error.strerror})") from error
    try:
        yield aside
        aside.chmod(0o777 & ~_umask())
        aside.replace(final)
    except OSError as error:
        said = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise SimcoreError(f"{final}: cannot be written ({said})") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
