"""Independent runs of a benchmark side by side, each in a process of its own: a GPU has room for several small ones."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from typing import Any


def add_flag(parser: argparse.ArgumentParser) -> None:
    """Declare how many runs there are at once."""
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side (default: 1)")


def finished(
    work: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], num_jobs: int
) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield each task with what ``work(*task)`` gave, in the order in which they end.

    Side by side, a run that fails is told and left out, so that it does not cost the others.
    """
    if num_jobs == 1:
        yield from ((task, work(*task)) for task in tasks)
        return
    with ProcessPoolExecutor(num_jobs, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        running: dict[Future[Any], tuple[Any, ...]] = {pool.submit(work, *task): task for task in tasks}
        for future in as_completed(running):
            try:
                yield running[future], future.result()
            except Exception:
                print(f"{running[future][:-1]} failed:", file=sys.stderr)
                traceback.print_exc()
