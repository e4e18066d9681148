"""How many threads to use, and a map over them that keeps order."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def num_threads() -> int:
    """Give ``OMP_NUM_THREADS`` where it is set, else the number of cores this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def threaded(work: Callable[[Item], Answer], items: Sequence[Item]) -> Iterator[Answer]:
    """Map ``work`` over ``items`` in threads; answers come in the order of the items."""
    threads = min(num_threads(), len(items))
    if threads <= 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(work, items)


@contextlib.contextmanager
def one_thread_each() -> Iterator[None]:
    """Keep what BLAS and torch do to the thread that asks, so that :func:`threaded` work does not crowd the cores.

    Torch is let be where it has not been imported.
    """
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    try:
        if torch:
            torch.set_num_threads(1)
        with threadpool_limits(limits=1, user_api="blas"):
            yield
    finally:
        if torch:
            torch.set_num_threads(before)
