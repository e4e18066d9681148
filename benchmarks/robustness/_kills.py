"""Kills and full disks: each job is stopped at random places and must end, run again, as if nothing had been."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from _scene import Job, Scene
from _trial import Fault, emptied, simcore

KILLS = 3  # at most, in one try


class Undisturbed:
    """What each job gives and takes when nothing happens; two runs must agree."""

    def __init__(self, job: Job, place: Path) -> None:
        runs = [(simcore(job.command(emptied(place))), job.content(place)) for _ in range(2)]
        for outcome, _ in runs:
            if fault := outcome.done():
                raise SystemExit(f"{job.name}, undisturbed: {fault}")
        if runs[0][1] != runs[1][1]:
            raise SystemExit(f"{job.name}: two undisturbed runs differ")
        self.content, self.seconds = runs[1][1], runs[1][0].seconds
        files = [path for path in (place, *place.rglob("*")) if path.is_file()]
        self.pages = sum(-(-path.stat().st_size // 4096) for path in files)
        self.largest = max(path.stat().st_size for path in files)


def kill(job: Job, whole: Undisturbed, place: Path, chance: np.random.Generator) -> str | None:
    """Kill up to three times at moments drawn over the job's own time, then let it end."""
    for _ in range(KILLS):
        outcome = simcore(job.command(place), kill_after=chance.uniform(0, whole.seconds))
        if outcome.code is not None:
            if fault := outcome.done():
                return fault
            break
        if job.whole_or_absent and job.content(place) not in ("", whole.content):
            return "half a result was left"
    return finish(job, whole, place)


def finish(job: Job, whole: Undisturbed, place: Path) -> str | None:
    """Run it again unless it is there, and compare."""
    there = job.whole_or_absent and job.content(place) == whole.content
    if not there and (fault := simcore(job.command(place)).done()):
        return fault
    return None if job.content(place) == whole.content else "other bytes than undisturbed"


def fill(job: Job, whole: Undisturbed, place: Path, chance: np.random.Generator) -> str | None:
    """Give the job a share of the room it needs, then enough."""
    with room(place, int(chance.integers(1, max(2, whole.pages)))) as grow:
        limit = None if grow else int(chance.integers(1, whole.largest))
        fault = simcore(job.command(place), file_limit=limit).refused("No space left", "full", "File too large")
        if fault:
            return fault
        if job.whole_or_absent and job.content(place):
            return "half a result was left"
        if grow:
            grow()
        return finish(job, whole, place)


@contextlib.contextmanager
def room(place: Path, pages: int) -> Iterator[functools.partial[None] | None]:
    """Mount a small disk at ``place`` and give what enlarges it; give None where that is not allowed."""
    mount = ["mount", "-t", "tmpfs", "-o"]
    if os.geteuid() or subprocess.run([*mount, f"size={4 * pages}k", "tmpfs", place], capture_output=True).returncode:
        yield None
        return
    try:
        yield functools.partial(enlarge, place)
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def enlarge(place: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=64m", place], check=True)


def faults(scene: Scene, place: Path) -> Iterator[Fault]:
    """Yield both for every job."""
    for job in scene.jobs().values():
        whole = Undisturbed(job, place)
        shutil.rmtree(place)
        yield Fault(
            kind="kill",
            name=f"`{job.name}` killed up to {KILLS} times at random moments, run again",
            surviving="ends with the bytes of an undisturbed run; no half result under its name meanwhile"
            if job.whole_or_absent
            else "ends with the bytes of an undisturbed run",
            attempt=functools.partial(kill, job, whole),
        )
        yield Fault(
            kind="full disk",
            name=f"`{job.name}` on a disk that fills up at a random place, run again with room",
            surviving="one line of error, exit 1; run again it ends with the bytes of an undisturbed run",
            attempt=functools.partial(fill, job, whole),
        )
