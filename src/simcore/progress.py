"""Progress on stderr: a live bar on a terminal, a line now and then in a pipe, nothing when quiet."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
import unicodedata
from types import TracebackType
from typing import Self

LINE_EVERY_SECONDS = 10.0
COLOURS = {"red": "31", "yellow": "33"}
UNSHOWN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # Unicode categories: what steers a terminal or the direction of text


def styled(text: str, colour: str) -> str:
    """Colour ``text`` for stderr where that is a terminal that takes colours and ``NO_COLOR`` is not set."""
    if os.environ.get("NO_COLOR") or not _is_live():
        return text
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m"


def printable(text: str, *, kept: str = "") -> str:
    r"""Escape what would steer a terminal, as names of files may (``\x1b``), but for the characters ``kept``."""
    if text.isprintable():
        return text
    steering = (c for c in set(text) - set(kept) if unicodedata.category(c) in UNSHOWN)
    return text.translate({ord(c): c.encode("unicode_escape").decode("ascii") for c in steering})


def tell(line: str) -> None:
    """Write a line on stderr, if anyone still reads it."""
    with contextlib.suppress(BrokenPipeError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def _is_live() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


class Progress:
    """Count work done towards a known total and say rate and time left.

    >>> with Progress("embed", total=100, quiet=True) as progress:
    ...     progress.advance(64)
    """

    def __init__(self, label: str, *, total: int, done: int = 0, unit: str = "images", quiet: bool = False) -> None:
        """Start at ``done`` of ``total`` (what an earlier run finished costs no time in the estimate)."""
        self.label, self.total, self.done, self.unit = label, total, done, unit
        self.note = ""
        self._first = done
        self._live = _is_live()
        self._quiet = quiet
        self._began = self._told = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def advance(self, count: int = 1, note: str = "") -> None:
        """Add ``count`` finished units; ``note`` (a loss, say) is shown after the estimate."""
        self.done += count
        self.note = note or self.note
        now = time.monotonic()
        if not self._quiet and now - self._told >= (0.1 if self._live else LINE_EVERY_SECONDS):
            self._told = now
            self._show(now)

    def _show(self, now: float, end: str = "") -> None:
        line = self.describe(now - self._began)
        if self._live:  # a line that wraps could not be wiped
            line = f"\r\x1b[2K{line[: shutil.get_terminal_size().columns - 1]}{end}"
        else:
            line += "\n"
        with contextlib.suppress(BrokenPipeError):  # nobody reads any more; the work goes on
            sys.stderr.write(line)
            sys.stderr.flush()

    def describe(self, elapsed: float) -> str:
        """Say the state after ``elapsed`` seconds in one line."""
        rate = (self.done - self._first) / elapsed if elapsed > 0 else 0.0
        left = _clock((self.total - self.done) / rate) if rate > 0 else "?"
        share = 100.0 * self.done / self.total if self.total else 100.0
        tail = f"  {self.note}" if self.note else ""
        return (
            f"{self.label}: {self.done:,}/{self.total:,} {self.unit} ({share:.0f} %), {rate:,.1f}/s, {left} left{tail}"
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._quiet and (self._live or self.done > self._first):
            self._show(time.monotonic(), end="\n")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
