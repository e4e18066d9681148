"""A piece: the features of a fixed run of source rows, the unit that is finished or absent."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simcore.artifacts.files import written_aside

MIN_ROWS, MAX_ROWS = 64, 4096
PIECES_AIMED_AT = 128
DIGEST_BYTES = 16
ARRAYS = ("sizes", "skipped", "reasons", "features")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """What became of source rows [start, start + n).

    Attributes:
        start: first source row.
        sizes: width and height of each image in pixels, 0 where unknown; int32 [n, 2].
        skipped, reasons: which of the n rows gave no feature, ascending, and why; [num_skipped] each.
        features: of the other rows, in order; [n - num_skipped, dim].
        num_rescaled: rows whose length had to be changed to fit the number format.
    """

    start: int
    sizes: npt.NDArray[np.int32]
    skipped: npt.NDArray[np.int64]
    reasons: npt.NDArray[np.str_]
    features: npt.NDArray[Any]
    num_rescaled: int

    @property
    def kept(self) -> npt.NDArray[np.bool_]:
        """Which rows have a feature, bool [n]."""
        mask = np.ones(len(self.sizes), np.bool_)
        mask[self.skipped] = False
        return mask

    @property
    def num_kept(self) -> int:
        """How many rows have a feature."""
        return len(self.sizes) - len(self.skipped)

    def without_features(self) -> Piece:
        """Drop the features, once they are stored elsewhere."""
        return dataclasses.replace(self, features=self.features[:0])


def split_rows(num_rows: int) -> list[range]:
    """Cut source rows into pieces of a power of two that depends on the source's length alone.

    A kill costs at most the pieces that were being worked on, so pieces are small; a store of 10^9 rows still has
    to do with files that a folder can hold.
    """
    wanted = 1 << math.ceil(math.log2(max(1, num_rows / PIECES_AIMED_AT)))
    step = min(MAX_ROWS, max(MIN_ROWS, wanted))
    return [range(low, min(low + step, num_rows)) for low in range(0, num_rows, step)]


def join_pieces(pieces: Sequence[Piece]) -> Piece:
    """Make one piece of consecutive ones."""
    return Piece(
        start=pieces[0].start,
        sizes=np.concatenate([piece.sizes for piece in pieces]),
        skipped=np.concatenate([piece.skipped + piece.start - pieces[0].start for piece in pieces]),
        reasons=np.concatenate([piece.reasons for piece in pieces]),
        features=np.concatenate([piece.features for piece in pieces]),
        num_rescaled=sum(piece.num_rescaled for piece in pieces),
    )


def write_piece(piece: Piece, path: Path, *, key: str) -> None:
    """Write a piece behind a digest that holds for this ``key`` (what is being made) and this file name only."""
    buffer = io.BytesIO()
    numbers = np.array([piece.start, piece.num_rescaled], np.int64)
    arrays = {name: getattr(piece, name) for name in ARRAYS}
    np.savez(buffer, numbers=numbers, **arrays)
    content = buffer.getbuffer()
    with written_aside(path) as aside, aside.open("wb") as file:
        file.write(_digest(content, path.name, key))
        file.write(content)


def read_piece(path: Path, *, key: str) -> Piece | None:
    """Read a piece; None where it is absent, cut, damaged or of another store."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    content = memoryview(data)[DIGEST_BYTES:]
    if data[:DIGEST_BYTES] != _digest(content, path.name, key):
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        start, num_rescaled = arrays["numbers"].tolist()
        return Piece(start=start, num_rescaled=num_rescaled, **{name: arrays[name] for name in ARRAYS})


def _digest(content: memoryview, name: str, key: str) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES, key=f"{name} {key}".encode()[:64]).digest()
