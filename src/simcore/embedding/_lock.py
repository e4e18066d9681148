"""A lock against a second job on the same files."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from simcore.errors import SimcoreError, SimcoreWarning


@contextlib.contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold an exclusive lock on ``path``; ``SimcoreError`` where another process holds it.

    A POSIX record lock: it dies with the process and, other than flock, is not handed on to forked workers that may
    outlive a killed parent.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    while True:
        with _opened(path, what) as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError) as error:
                raise SimcoreError(f"{what} is being written by another process; wait for it, or stop it") from error
            except OSError as error:  # some network drives keep no locks
                warnings.warn(f"{what} cannot be locked ({error.strerror})", SimcoreWarning, stacklevel=3)
            if _is_still(path, file.fileno()):
                yield
                return
        # The holder finished and removed the file between our open and our lock: take the new one.


def _opened(path: Path, what: str) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("w")
    except OSError as error:
        raise SimcoreError(f"{what} cannot be written ({error.strerror})") from error


def _is_still(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False
