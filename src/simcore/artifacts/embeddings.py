"""Embeddings: one feature row for each readable image of a source, and which image it was."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from simcore.artifacts._html import MAX_ROWS, card
from simcore.artifacts.files import fingerprint, read_json
from simcore.artifacts.parts import PartedArray
from simcore.errors import SimcoreError

STORE_FORMAT = 1
ROWS_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("id", pa.string()),
        ("uri", pa.string()),
        ("label", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
    ]
)
SKIPPED_SCHEMA = pa.schema([("id", pa.string()), ("reason", pa.string())])


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Embeddings:
    """Features [num_rows, dim] with the table of their rows.

    ``table`` has the columns of ``ROWS_SCHEMA``; ``classes[label]`` is a class name; ``info`` is the content
    of ``store.json`` (encoder, source, fingerprints, counts), empty for plain arrays. ``barred`` lists rows that a
    selector must not choose (the target's own images in a pool that holds them).
    """

    features: PartedArray
    table: pa.Table
    classes: tuple[str, ...] = ()
    info: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    path: Path | None = None
    barred: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.features)

    def _repr_html_(self) -> str:
        facts = {"rows": len(self), "dim": self.dim, "skipped": self.num_skipped, "encoder": self.info.get("encoder")}
        names = ("row", "id", "label")
        rows = self.table.select(names).slice(0, MAX_ROWS).to_pylist()
        return card(
            f"Embeddings of {self.info.get('source', self.name)}", facts, [list(r.values()) for r in rows], names
        )

    @property
    def dim(self) -> int:
        """Width of a feature row."""
        return self.features.shape[1]

    @functools.cached_property
    def fingerprint(self) -> str:
        """What these features were made from; for plain arrays, a hash of the numbers themselves."""
        return self.info.get("fingerprint") or fingerprint(*self.features.parts)

    @functools.cached_property
    def labels(self) -> npt.NDArray[np.int64]:
        """Class index of each row [num_rows]; -1 where a row has none."""
        column = self.table["label"].combine_chunks().fill_null(-1)
        return np.asarray(column.to_numpy(zero_copy_only=False), np.int64)

    @property
    def name(self) -> str:
        """What to call these features in a message."""
        return str(self.path) if self.path else "an array"

    @property
    def num_skipped(self) -> int:
        """How many items of the source gave no row."""
        return int(self.info.get("num_skipped", 0))

    def take(self, rows: npt.NDArray[np.int64]) -> Embeddings:
        """Copy some rows, in that order, into embeddings of their own."""
        part = fingerprint(self.fingerprint, np.asarray(rows, np.int64))
        return dataclasses.replace(
            self,
            features=PartedArray([self.features.take(rows)]),
            table=self.table.take(pa.array(rows)),
            info={**self.info, "fingerprint": part},
            barred=None,
        )

    def rows_shared_with(self, other: Embeddings) -> npt.NDArray[np.int64]:
        """Give the rows that are of images of ``other``, by URI; none where one of them does not say its images."""
        if not (self.info and other.info):
            return np.zeros(0, np.int64)
        shared = pc.is_in(self.table["uri"], value_set=other.table["uri"].combine_chunks())
        return np.flatnonzero(shared.to_numpy(zero_copy_only=False))

    @classmethod
    def from_array(cls, features: npt.ArrayLike | PartedArray, *, labels: npt.ArrayLike | None = None) -> Embeddings:
        """Wrap a plain [num_rows, dim] array; ids are the row numbers.

        Raises ``SimcoreError`` for anything that is not a matrix of numbers.
        """
        parted = features if isinstance(features, PartedArray) else PartedArray([_matrix(features)])
        rows = np.arange(len(parted), dtype=np.int64)
        names = pa.array(rows).cast(pa.string())
        label = pa.nulls(len(rows), pa.int64()) if labels is None else pa.array(np.asarray(labels, np.int64))
        unknown = pa.nulls(len(rows), pa.int32())
        table = pa.Table.from_arrays([pa.array(rows), names, names, label, unknown, unknown], schema=ROWS_SCHEMA)
        return cls(features=parted, table=table)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Embeddings:
        """Open a finished store folder, or a ``.npy`` file holding a matrix, memory-mapped.

        Raises ``SimcoreError`` where it is missing, unfinished or damaged.
        """
        place = Path(path)
        if place.suffix == ".npy":
            return dataclasses.replace(cls.from_array(_open_npy(place)), path=place)
        info = read_json(place / "store.json")
        if info.get("format") != STORE_FORMAT or not info.get("complete"):
            raise SimcoreError(f"{place}: not a finished store; run the same `simcore embed` again to complete it")
        table = _read_rows(place / "rows.parquet")
        parts = [_open_npy(place / name) for name in info["parts"]]
        features = PartedArray(parts or [np.zeros((0, info["dim"]), np.float16)])
        if features.shape != (info["num_rows"], info["dim"]) or table.num_rows != info["num_rows"]:
            raise SimcoreError(
                f"{place}: store.json promises {info['num_rows']} rows of {info['dim']}, the files hold "
                f"{features.shape[0]} of {features.shape[1]} and {table.num_rows} table rows; embed it again"
            )
        return cls(features=features, table=table, classes=tuple(info["classes"]), info=info, path=place)


def is_store(path: str | os.PathLike[str]) -> bool:
    """Tell whether a path holds features (a store folder or a ``.npy`` matrix) rather than images."""
    place = Path(path)
    return place.suffix == ".npy" or (place / "store.json").is_file()


def _matrix(values: npt.ArrayLike) -> npt.NDArray[Any]:
    matrix = np.asarray(values)
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiu":
        raise SimcoreError(f"features must be a matrix [rows, dim] of numbers, not {matrix.dtype} {matrix.shape}")
    return matrix if matrix.dtype.kind == "f" else matrix.astype(np.float32)


def _open_npy(path: Path) -> npt.NDArray[Any]:
    try:
        return _matrix(np.load(path, mmap_mode="r", allow_pickle=False))
    except FileNotFoundError as error:
        raise SimcoreError(f"{path}: no such file") from error
    except (OSError, ValueError, EOFError) as error:
        raise SimcoreError(f"{path}: not a readable .npy matrix ({error})") from error
    except SimcoreError as error:
        raise SimcoreError(f"{path}: {error}") from error


def _read_rows(path: Path) -> pa.Table:
    try:
        return pq.read_table(path, memory_map=True)
    except (OSError, pa.ArrowInvalid) as error:
        raise SimcoreError(f"{path}: not a readable table of rows ({error})") from error
