"""Small pictures and containers that the tests of this room build their inputs from."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image


class Maker:
    """Builds inputs below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @staticmethod
    def pixels(seed: int = 0, width: int = 32, height: int = 24, channels: int = 3) -> np.ndarray:
        """Smooth colours that differ by seed, uint8 [height, width, channels]."""
        coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, channels), dtype=np.uint8)
        planes = [
            Image.fromarray(coarse[:, :, c]).resize((width, height), Image.Resampling.BICUBIC) for c in range(channels)
        ]
        return np.stack([np.asarray(plane) for plane in planes], axis=-1)

    @staticmethod
    def noise(seed: int = 0, width: int = 64, height: int = 64) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)

    @staticmethod
    def encode(picture: np.ndarray | Image.Image, fmt: str = "PNG", **options: Any) -> bytes:
        image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        buffer = io.BytesIO()
        image.save(buffer, fmt, **options)
        return buffer.getvalue()

    def png(self, seed: int = 0, **size: int) -> bytes:
        return self.encode(self.pixels(seed, **size))

    def jpeg(self, seed: int = 0, **size: int) -> bytes:
        return self.encode(self.pixels(seed, **size), "JPEG", quality=90)

    def put(self, name: str, data: bytes) -> Path:
        """Write a file below the root; gives its path."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    @staticmethod
    def tar_bytes(members: Iterable[tuple[str, bytes]], fmt: int = tarfile.USTAR_FORMAT) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=fmt) as archive:
            for name, data in members:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return buffer.getvalue()

    def tar(self, name: str, members: Iterable[tuple[str, bytes]], **options: Any) -> Path:
        return self.put(name, self.tar_bytes(members, **options))

    def samples(self, count: int, start: int = 0) -> list[tuple[str, bytes]]:
        """`NNN.png` and `NNN.cls` for ``count`` samples."""
        numbers = range(start, start + count)
        return [m for n in numbers for m in ((f"{n:03d}.png", self.png(n)), (f"{n:03d}.cls", str(n).encode()))]

    def table(self, name: str, columns: dict[str, Any], features: dict[str, Any] | None = None, **options: Any) -> Path:
        """Write a Parquet file, with Hugging Face features in its metadata if given."""
        table = pa.table(columns)
        if features:
            table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, **options)
        return path

    def structs(self, seeds: Iterable[int]) -> pa.Array:
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        return pa.array([{"bytes": self.png(seed), "path": f"{seed}.png"} for seed in seeds], kind)


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    return Maker(tmp_path)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep cached listings out of the user's home."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
