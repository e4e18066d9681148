"""A Ray cluster: joined where one is named, else started on this machine for as long as it is needed.

The one place that imports Ray, and only when it is entered. Ray comes with the extra ``simcore[ray]``.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

from simcore.errors import SimcoreError, UsageError

ENGINES = ("local", "ray")
ENGINE_HELP = "where to compute: in this process and its workers (local), or on a Ray cluster (ray)"
PROBE_SECONDS = 10.0
ADDRESS_HELP = "head of the Ray cluster, such as 10.0.0.1:6379, or auto (default: RAY_ADDRESS, else one started here)"


def check_engine(engine: str) -> None:
    """Refuse a name that is no engine."""
    if engine not in ENGINES:
        raise UsageError(f"--engine is '{engine}', but must be one of {', '.join(ENGINES)}")


@contextlib.contextmanager
def connected(address: str | None = None) -> Iterator[Any]:
    """Give the module ``ray``, connected to a cluster; what was begun here is ended here.

    Within a process that is connected already (by the user, or by an outer call) that connection is used. Else
    ``address``, then the environment's ``RAY_ADDRESS``, names a cluster; with neither, one is started on this machine.

    Raises ``SimcoreError`` where Ray is not installed, or no cluster answers.
    """
    ray = _imported()
    if ray.is_initialized():
        yield ray
        return
    with _signals_restored():
        _connect(ray, address or os.environ.get("RAY_ADDRESS") or "local")
        try:
            yield ray
        finally:
            ray.shutdown()


def cause_of(error: BaseException) -> BaseException:
    """Give what a task raised, without the traceback of the worker that Ray puts into its message."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, BaseException) else error


def first_line(error: BaseException) -> str:
    """Shorten one of Ray's messages to a line."""
    lines = [line.strip() for line in str(cause_of(error)).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__


def _imported() -> Any:
    # Read by Ray when it is imported: nobody who runs simcore is reported on unless they ask for it.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise SimcoreError("--engine ray needs Ray: pip install 'simcore[ray]'") from error


def _connect(ray: Any, address: str) -> None:
    try:
        _probe(address)
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            **({"include_dashboard": False} if address == "local" else {}),
        )
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        what = "Ray cannot be started here" if address == "local" else f"no Ray cluster answers at '{address}'"
        raise SimcoreError(f"{what} ({first_line(error)})") from None
    # Ray tells of workers that died on stdout, which belongs to the result; simcore says what matters itself.
    worker: Any = importlib.import_module("ray._private.worker")
    worker._worker_logs_enabled = False


def _probe(address: str) -> None:
    """Raise ``OSError`` at once where nothing listens; Ray itself would try for minutes."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=PROBE_SECONDS).close()


@contextlib.contextmanager
def _signals_restored() -> Iterator[None]:
    """Put back the handler of SIGTERM, which ``ray.init`` replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler if handler is not None else signal.SIG_DFL)
