"""Small sources and encoders for the tests of this room."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from simcore.embedding import Encoder, load_encoder


def draw_jpeg(seed: int, size: tuple[int, int] = (40, 32)) -> bytes:
    """A JPEG of its own colours and texture for each seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    noise = rng.integers(-20, 21, (size[1], size[0], 3))
    buffer = io.BytesIO()
    pixels = np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@pytest.fixture
def make_folder(tmp_path: Path):
    """Make a folder of small JPEGs."""

    def make(count: int, name: str = "images", size: tuple[int, int] = (40, 32)) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for number in range(count):
            (folder / f"img_{number:05d}.jpg").write_bytes(draw_jpeg(number, size))
        return folder

    return make


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Networks this small run no faster on several threads, and far slower where cores are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """ResNet-10 with fresh weights at 32 px."""
    return load_encoder("timm:resnet10@random", device="cpu", image_size=32)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of 8 source rows, so that small sources have many."""
    monkeypatch.setattr("simcore.embedding._pieces.MIN_ROWS", 8)


@pytest.fixture(scope="session")
def jpeg():
    """Give :func:`draw_jpeg`."""
    return draw_jpeg


@pytest.fixture(scope="session")
def contents():
    """Read every file of a store, by name."""

    def read(store: Path) -> dict[str, bytes]:
        return {str(path.relative_to(store)): path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file()}

    return read
