"""Which share of the work is this process's (torchrun sets RANK and WORLD_SIZE), and a lock against a second job."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from simcore.errors import SimcoreError, SimcoreWarning, UsageError

POLL_SECONDS = 0.2
PATIENCE_SECONDS = 1800.0


@dataclasses.dataclass(frozen=True)
class Ranks:
    """This process's number among ``world`` equal ones."""

    rank: int = 0
    world: int = 1

    @classmethod
    def from_environment(cls) -> Ranks:
        """Read what torchrun set; one process where nothing is set."""
        text = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
        try:
            rank, world = int(text[0]), int(text[1])
        except ValueError:
            rank, world = -1, 0
        if not 0 <= rank < world:
            raise UsageError(f"RANK={text[0]} and WORLD_SIZE={text[1]} are not those of a torchrun process")
        return cls(rank, world)

    @property
    def leads(self) -> bool:
        """Whether this process begins and finishes the store."""
        return self.rank == 0

    def wait(self, left: Callable[[], int], what: str) -> None:
        """Poll until nothing is ``left()``; ``SimcoreError`` where the count has not changed for half an hour."""
        seen, since = left(), time.monotonic()
        while seen:
            time.sleep(POLL_SECONDS)
            now = left()
            if now != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > PATIENCE_SECONDS:
                raise SimcoreError(f"waited half an hour for {what}; a rank may have died: run the same again to go on")


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
