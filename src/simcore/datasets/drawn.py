"""Drawn: a fine-grained target inside an open pool, made by the program from a seed.

The target is eight species of moth of one build. The pool holds many other families and, as a real one would, a few
pictures of the target's own species, of other species of their build and of butterflies. No file is downloaded, so a
demo or a test runs anywhere; and nothing here is tuned to let one selector win.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from simcore.artifacts.files import read_json, write_json
from simcore.datasets._canvas import Canvas, Field, backdrop, develop, texture_bank
from simcore.datasets._creatures import CREATURES
from simcore.datasets._moths import SPECIES, butterfly_genes, draw_moth, sister_genes, species_genes
from simcore.datasets._things import THINGS
from simcore.errors import SimcoreError, UsageError
from simcore.settings import as_dict, setting

__all__ = ["Drawn", "DrawnSources"]

BATCH = 4
MOTH_GROUND = (0.05, 0.35)
PLAIN_MOTHS, PLAIN_OTHERS = 0.8, 0.3  # shares of pictures on pale, even ground
JPEG_QUALITY = 90
ROWS_PER_GROUP = 100


@dataclasses.dataclass(frozen=True)
class DrawnSources:
    """Where the parts of the set lie; each is a SOURCE.

    ``target`` and ``test`` are folders with one folder per species, ``pool`` is a Parquet file in the Hugging Face
    image layout whose labels say what each picture shows (so that a report can count hits; training never reads them).
    """

    target: Path
    test: Path
    pool: Path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawn:
    """Draw eight species of moth and a pool in which a few moths are hidden.

    Equal settings give equal files on one machine; another processor or encoder may differ in a last bit of a pixel.
    """

    licence: ClassVar[str] = "Apache-2.0 (made by this program)"
    description: ClassVar[str] = "moths drawn by the program: 8 species inside a pool of 23 other kinds of picture"

    seed: int = setting(0, "seed of every draw")
    image_size: int = setting(64, "side of the square pictures in pixels")
    num_train: int = setting(30, "training pictures of each target species")
    num_test: int = setting(50, "test pictures of each target species")
    num_pool: int = setting(5000, "pictures in the pool")
    share_own: float = setting(0.05, "share of the pool that shows a target species")
    share_related: float = setting(0.05, "share of the pool that shows other moths, half of it butterflies")

    def __post_init__(self) -> None:
        for name in ("num_train", "num_test", "num_pool"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 16 <= self.image_size <= 128:
            raise UsageError(f"image_size must be from 16 to 128, not {self.image_size}")
        if min(self.share_own, self.share_related) < 0 or self.share_own + self.share_related > 1:
            raise UsageError("share_own and share_related must be shares that add up to at most 1")

    def write(self, folder: str | os.PathLike[str]) -> DrawnSources:
        """Draw the whole set into ``folder`` and say where its three sources are.

        The folder appears when the set is whole. One that holds this very set is left as it is; ``SimcoreError`` for
        one that holds anything else.
        """
        root = Path(folder)
        told = root / "drawn.json"
        if root.exists() and not (root.is_dir() and not any(root.iterdir())):
            if not told.is_file() or read_json(told) != as_dict(self):
                raise SimcoreError(f"{root}: holds something else already; name a new folder for the drawn set")
        else:
            aside = root.with_name(f".{root.name}.partial")
            shutil.rmtree(aside, ignore_errors=True)
            self._write_parts(aside)
            write_json(aside / told.name, as_dict(self))
            aside.replace(root)
        return DrawnSources(root / "target" / "train", root / "target" / "test", root / "pool" / "pool.parquet")

    def _write_parts(self, root: Path) -> None:
        bank = texture_bank(self.seed)
        for stream, (split, number) in enumerate((("train", self.num_train), ("test", self.num_test)), start=1):
            for index, name in enumerate(SPECIES):
                pictures = self._draw(name, number, bank, stream=(stream, index))
                _write_folder(root / "target" / split / name, pictures)
        _write_pool(root / "pool" / "pool.parquet", *self._draw_pool(bank))

    def _draw(self, kind: str, number: int, bank: Field, stream: tuple[int, int]) -> Iterator[bytes]:
        """Draw ``number`` pictures of one kind as JPEG; the stream tells this draw from all others of the seed."""
        for start in range(0, number, BATCH):
            rng = np.random.default_rng([self.seed, *stream, start])
            canvas = Canvas(rng, min(BATCH, number - start), self.image_size)
            paint, hues = PAINTERS[kind]
            paint(canvas)
            behind = backdrop(canvas, bank, hues, PLAIN_MOTHS if hues is MOTH_GROUND else PLAIN_OTHERS)
            yield from map(_encode, develop(canvas, behind, bank))

    def _draw_pool(self, bank: Field) -> tuple[list[bytes], npt.NDArray[np.int64]]:
        """Draw the pool's pictures, mixed, and which kind each is."""
        counts = self._pool_counts()
        pictures = [
            p for i, (k, n) in enumerate(zip(PAINTERS, counts, strict=True)) for p in self._draw(k, n, bank, (3, i))
        ]
        order = np.random.default_rng([self.seed, 4]).permutation(len(pictures))
        return [pictures[i] for i in order], np.repeat(np.arange(len(counts)), counts)[order]

    def _pool_counts(self) -> list[int]:
        """Spread the pool over the kinds as evenly as whole numbers allow."""
        own, related = round(self.num_pool * self.share_own), round(self.num_pool * self.share_related)
        others = len(PAINTERS) - len(SPECIES) - 2
        return [*_shares(own, len(SPECIES)), *_shares(related, 2), *_shares(self.num_pool - own - related, others)]


def _shares(total: int, parts: int) -> list[int]:
    return [total * (i + 1) // parts - total * i // parts for i in range(parts)]


def _target_painter(number: int) -> Callable[[Canvas], None]:
    return lambda canvas: draw_moth(canvas, species_genes(np.full(canvas.count, number)))


PAINTERS: dict[str, tuple[Callable[[Canvas], None], tuple[float, float]]] = {
    **{name: (_target_painter(number), MOTH_GROUND) for number, name in enumerate(SPECIES)},
    "other moth": (lambda canvas: draw_moth(canvas, sister_genes(canvas.rng, canvas.count)), MOTH_GROUND),
    "butterfly": (lambda canvas: draw_moth(canvas, butterfly_genes(canvas.rng, canvas.count)), MOTH_GROUND),
    **CREATURES,
    **THINGS,
}
"""How each kind of picture is drawn and which hues its background usually has; the pool's classes in label order."""


def _encode(pixels: npt.NDArray[np.uint8]) -> bytes:
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "JPEG", quality=JPEG_QUALITY)
    return held.getvalue()


def _write_folder(folder: Path, pictures: Iterator[bytes]) -> None:
    folder.mkdir(parents=True)
    for number, picture in enumerate(pictures):
        (folder / f"{number:03d}.jpg").write_bytes(picture)


def _write_pool(path: Path, pictures: list[bytes], labels: npt.NDArray[np.int64]) -> None:
    names = pa.array([f"{position:05d}.jpg" for position in range(len(pictures))])
    image = pa.StructArray.from_arrays([pa.array(pictures, pa.binary()), names], ["bytes", "path"])
    label = {"names": list(PAINTERS), "_type": "ClassLabel"}
    features = {"info": {"features": {"image": {"_type": "Image"}, "label": label}}}
    table = pa.table({"image": image, "label": pa.array(labels, pa.int64())})
    path.parent.mkdir(parents=True)
    pq.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps(features)}), path, row_group_size=ROWS_PER_GROUP
    )
