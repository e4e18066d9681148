"""Fixtures that every part of the suite may use."""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture
def shared_data() -> Path:
    """The real benchmark images, where this machine has them."""
    if not (SHARED_DATA / "tiny-imagenet" / "val.parquet").is_file():
        pytest.skip(f"the shared benchmark images are not at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture
def peak_growth() -> Callable[[], contextlib.AbstractContextManager[list[float]]]:
    """By how many MiB the memory of this process rose inside, at its peak: one number in the list, at the end.

    The peak that ``getrusage`` tells is that of the whole life, with every test that ran before: growth under it is not
    seen. So the kernel's own mark is set back first, which Linux alone can do.
    """
    if not sys.platform.startswith("linux"):
        pytest.skip("the mark of peak memory can be set back on Linux alone")

    def resident(name: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024

    @contextlib.contextmanager
    def measured() -> Iterator[list[float]]:
        grown: list[float] = []
        Path("/proc/self/clear_refs").write_text("5")
        before = resident("VmRSS")
        yield grown
        grown.append(resident("VmHWM") - before)

    return measured


@pytest.fixture
def small_files() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """What a full disk does, in the middle of a file: inside, the system writes no file beyond 4,096 bytes.

    Only around the work itself, for the limit is that of the whole process, and pytest's output may go to a file.
    """

    @contextlib.contextmanager
    def limited() -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited
