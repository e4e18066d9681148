"""Signals that ask a run to stop, turned into a flag that the loop reads between steps."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from simcore.errors import SimcoreError


class Stopped(SimcoreError):  # noqa: N818 - nothing went wrong
    """The run was asked to stop (SIGTERM), has saved its state and can be resumed (exit code 1)."""


class StopRequest:
    """Whether a signal has come in, and which."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Catch SIGTERM and SIGINT until the block ends; a second SIGINT interrupts at once.

    Outside the main thread Python allows no handlers, so nothing is caught there.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(number: int, frame: FrameType | None) -> None:
        request.signal = signal.Signals(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before: dict[int, Any] = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def raise_stopped(request: StopRequest, message: str) -> None:
    """End the run: ``KeyboardInterrupt`` (exit code 130) for Ctrl-C, :class:`Stopped` for anything else."""
    if request.signal == signal.SIGINT:
        raise KeyboardInterrupt(message)
    raise Stopped(message)
