"""Braces and wildcards in the names of shards and tables."""

from __future__ import annotations

import glob
import os
import re

from simcore.errors import SimcoreError, UsageError
from simcore.images.faults import Unreadable
from simcore.images.storage import is_remote, remotely

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def is_pattern(place: str) -> bool:
    """Tell braces and wildcards; a file that is really called so is none."""
    wild = "*" in place or bool(_BRACES.search(place))
    if is_remote(place):
        return wild
    return (wild or "?" in place or "[" in place) and not os.path.lexists(place)


def expand(pattern: str) -> list[str]:
    """Expand ``{a,b}``, ``{000..127}`` and wildcards, in order; ``SimcoreError`` where nothing matches."""
    files: list[str] = []
    for name in _expand_braces(pattern):
        files += _glob(name) if "*" in name or (not is_remote(name) and is_pattern(name)) else [name]
    if not files:
        raise SimcoreError(f"{pattern}: matches no file")
    return list(dict.fromkeys(files))


def _expand_braces(pattern: str) -> list[str]:
    match = _BRACES.search(pattern)
    if not match:
        return [pattern]
    inner = match[1]
    if bounds := _RANGE.fullmatch(inner):
        low, high = int(bounds[1]), int(bounds[2])
        if high < low:
            raise UsageError(f"{pattern}: the range {{{inner}}} runs backwards")
        choices = [str(number).zfill(len(bounds[1])) for number in range(low, high + 1)]
    else:
        choices = inner.split(",")
    before, after = pattern[: match.start()], pattern[match.end() :]
    return [name for choice in choices for name in _expand_braces(f"{before}{choice}{after}")]


def _glob(pattern: str) -> list[str]:
    if not is_remote(pattern):
        return sorted(glob.glob(pattern, recursive=True), key=os.fsencode)  # noqa: PTH207 - order and bytes
    try:
        return sorted(remotely(pattern, lambda system, path: list(map(system.unstrip_protocol, system.glob(path)))))
    except Unreadable:
        return []
