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


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """What became of source rows [start, start + n).

    Attributes:
        start: first source row.
        reasons: why a row gave no feature, "" where it gave one; [n].
        sizes: width and height of each image in pixels, 0 where unknown; int32 [n, 2].
        features: of the rows without a reason, in order; [num_ok, dim].
        num_rescaled: rows whose length had to be changed to fit the number format.
    """

    start: int
    reasons: npt.NDArray[np.str_]
    sizes: npt.NDArray[np.int32]
    features: npt.NDArray[Any]
    num_rescaled: int

    @property
    def kept(self) -> npt.NDArray[np.bool_]:
        """Which rows have a feature, bool [n]."""
        return np.asarray(self.reasons == "")

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
        reasons=np.concatenate([piece.reasons for piece in pieces]),
        sizes=np.concatenate([piece.sizes for piece in pieces]),
        features=np.concatenate([piece.features for piece in pieces]),
        num_rescaled=sum(piece.num_rescaled for piece in pieces),
    )


def write_piece(piece: Piece, path: Path, *, key: str) -> None:
    """Write a piece behind a digest that holds for this ``key`` (what is being made) and this file name only."""
    buffer = io.BytesIO()
    numbers = np.array([piece.start, piece.num_rescaled], np.int64)
    np.savez(buffer, numbers=numbers, reasons=piece.reasons, sizes=piece.sizes, features=piece.features)
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
        return Piece(
            start=start,
            num_rescaled=num_rescaled,
            reasons=arrays["reasons"],
            sizes=arrays["sizes"],
            features=arrays["features"],
        )


def _digest(content: memoryview, name: str, key: str) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES, key=f"{name} {key}".encode()[:64]).digest()
