"""Fixtures that every part of the suite may use."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture
def shared_data() -> Path:
    """The real benchmark images, where this machine has them."""
    if not (SHARED_DATA / "tiny-imagenet" / "val.parquet").is_file():
        pytest.skip(f"the shared benchmark images are not at {SHARED_DATA}")
    return SHARED_DATA
