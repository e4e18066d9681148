"""How faults are tried: simcore's command line in a process that may be killed, watched for what it says and leaves."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simcore.cli import main

PATIENCE = 120.0  # seconds after which a command counts as hanging
GROWTH_MB = 1500  # more memory than this above the parent's is no survival


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit code (None where it was killed), what it said, how long and large it was."""

    code: int | None
    out: str
    err: str
    seconds: float
    growth_mb: float

    @property
    def crashed(self) -> str | None:
        """Say what no user should see: a traceback, a hang, memory without end."""
        if self.code is None:
            return f"killed after {self.seconds:.0f} s"
        if "Traceback (most recent call last)" in self.err or self.code not in (0, 1, 2):
            return f"exit {self.code}: {self.err.strip().splitlines()[-1] if self.err.strip() else 'nothing said'}"
        return f"{self.growth_mb:.0f} MB" if self.growth_mb > GROWTH_MB else None

    def refused(self, *words: str) -> str | None:
        """Give None if it ended with one line of error (exit 1 or 2) that holds one of ``words``, else what it did."""
        if self.crashed:
            return self.crashed
        last = self.err.strip().splitlines()[-1] if self.err.strip() else ""
        if self.code not in (1, 2) or not last.startswith("simcore: error:"):
            return f"exit {self.code} without an error: {last}"
        return None if any(word in last for word in words) else f"the error names nothing of {words}: {last}"

    def done(self) -> str | None:
        """Give None if it ended well, else how."""
        return self.crashed or (None if self.code == 0 else f"exit {self.code}: {self.err.strip()[-300:]}")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One kind of harm. ``attempt`` does it once in an empty folder and gives None, or why it was not survived."""

    kind: str
    name: str
    surviving: str
    attempt: Callable[[Path, np.random.Generator], str | None]
    once: bool = False  # nothing about it is random


def simcore(
    argv: Sequence[str | Path],
    *,
    kill_after: float | None = None,
    file_limit: int | None = None,
) -> Outcome:
    """Run one command in a process group of its own, forked from this one, which has everything imported.

    ``kill_after`` seconds the group gets SIGKILL; ``file_limit`` is the size in bytes at which the system refuses to
    go on writing a file.
    """
    reads = [os.memfd_create(name) for name in ("out", "err")]
    before, began = resident_mb(), time.monotonic()
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(ready, 1)  # not before it has a group of its own
        become(list(map(str, argv)), reads, file_limit)
    os.setpgid(child, child)
    os.write(go, b"1")
    for end in (ready, go):
        os.close(end)
    code, usage = watch(child, began + (PATIENCE if kill_after is None else kill_after))
    said = []
    for handle in reads:
        os.lseek(handle, 0, os.SEEK_SET)
        with os.fdopen(handle, "r", errors="surrogateescape") as file:
            said.append(file.read())
    return Outcome(code, *said, time.monotonic() - began, max(0.0, usage / 1024 - before))


def become(argv: list[str], outputs: list[int], file_limit: int | None) -> None:
    """Be the command; never returns."""
    code = 70
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for handle, target in zip(outputs, (1, 2), strict=True):
            os.dup2(handle, target)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        os.chdir("/")
        if file_limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
        code = main(argv)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def watch(child: int, until: float) -> tuple[int | None, int]:
    """Wait for the end, or bring it about; give the exit code and the largest resident memory in KiB."""
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            return (os.waitstatus_to_exitcode(status), usage.ru_maxrss)
        if time.monotonic() >= until:
            os.killpg(child, signal.SIGKILL)
            _, _, usage = os.wait4(child, 0)
            return None, usage.ru_maxrss
        time.sleep(0.002)


def resident_mb() -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def content(place: Path, only: str = "*") -> str:
    """Digest of the names and bytes of all files of a folder that fit ``only``, or of one file; '' where none is."""
    found = hashlib.sha256()
    files = [place] if place.is_file() else sorted(path for path in place.rglob(only) if path.is_file())
    for path in files:
        found.update(f"{path.relative_to(place.parent)}\0".encode("utf-8", "surrogateescape"))
        found.update(path.read_bytes())
    return found.hexdigest() if files else ""


def emptied(place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    return place


def cut(path: Path, at: int) -> None:
    """Keep the first ``at`` bytes."""
    path.write_bytes(path.read_bytes()[:at])
