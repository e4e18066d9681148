"""The tables of a store: which image each feature row is of, what was skipped and why."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from simcore.artifacts.embeddings import ROWS_SCHEMA, SKIPPED_SCHEMA
from simcore.embedding._pieces import Piece
from simcore.errors import SimcoreError


class NoFeatureError(SimcoreError):
    """No image at all gave a feature."""


def rows_table(piece: Piece, listing: pa.Table, first_row: int) -> pa.Table:
    """Make the rows of ``rows.parquet`` for one piece whose first feature is row ``first_row`` of the store."""
    kept = np.flatnonzero(piece.kept)
    chosen = listing.take(pa.array(kept + piece.start)).combine_chunks()
    sizes = piece.sizes[kept]
    columns = [
        pa.array(np.arange(first_row, first_row + len(kept), dtype=np.int64)),
        *(chosen[name] for name in ("id", "uri", "label")),
        pa.array(sizes[:, 0]),
        pa.array(sizes[:, 1]),
    ]
    return pa.Table.from_arrays(columns, schema=ROWS_SCHEMA)


def skipped_table(piece: Piece, listing: pa.Table, first_row: int = 0) -> pa.Table:
    """Make the rows of ``skipped.parquet`` for one piece (``first_row`` does not matter here)."""
    ids = listing["id"].take(pa.array(piece.skipped + piece.start)).combine_chunks()
    return pa.Table.from_arrays([ids, pa.array(piece.reasons.tolist(), pa.string())], schema=SKIPPED_SCHEMA)


def describe_counts(pieces: Iterable[Piece], listing: pa.Table) -> dict[str, Any]:
    """Count rows for ``store.json``; ``NoFeatureError`` where no image at all gave a feature."""
    num_rows = num_skipped = num_rescaled = 0
    first = ""
    for piece in pieces:
        num_rows += piece.num_kept
        num_skipped += len(piece.skipped)
        num_rescaled += piece.num_rescaled
        first = first or first_skipped(piece, listing)
    if not num_rows:
        raise NoFeatureError(f"none of the {num_skipped} images gave a feature; the first: {first}")
    return {"num_rows": num_rows, "num_skipped": num_skipped, "num_rescaled": num_rescaled}


def first_skipped(piece: Piece, listing: pa.Table) -> str:
    """Name the first skipped image of a piece with its reason, "" where there is none."""
    if not len(piece.skipped):
        return ""
    return f"{listing['id'][int(piece.skipped[0]) + piece.start].as_py()} ({piece.reasons[0]})"
