"""Selection: which pool rows were chosen, in pick order, and why it stopped."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from simcore.artifacts._html import MAX_ROWS, card
from simcore.artifacts.files import fingerprint, parse_json, written_aside
from simcore.errors import SimcoreError

if TYPE_CHECKING:
    import pandas as pd

SELECTION_FORMAT = 1


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """A coreset of n pool rows; entry i of every array is the i-th pick, so a smaller budget is a prefix.

    Attributes:
        indices: pool rows, distinct, int64 [n].
        rounds: 1-based round of the pick (0 where the selector has no rounds), int32 [n].
        clusters: centroid that picked it (-1 where there is none), int32 [n].
        similarities: cosine to that centroid (NaN where none was computed), float32 [n].
        stop_reason: ``budget``, ``stop`` or ``exhausted``.
        objective: one value a round, as the selector defines it.
        num_invalid: pool rows left out because they hold NaN, infinity or only zeros.
        ids, uris, labels: of each pick; empty where the pool was a plain array.
        settings: selector, its settings, budget and seed.
        parents: fingerprints of target and pool.
    """

    indices: npt.NDArray[np.int64]
    rounds: npt.NDArray[np.int32]
    clusters: npt.NDArray[np.int32]
    similarities: npt.NDArray[np.float32]
    stop_reason: str
    objective: tuple[float, ...] = ()
    num_invalid: int = 0
    ids: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()
    labels: npt.NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    parents: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.indices)

    def _repr_html_(self) -> str:
        facts = {"selector": self.settings.get("selector"), "stopped by": self.stop_reason, "invalid": self.num_invalid}
        names = ("rank", "id", "round", "cluster", "similarity")
        rows = self.prefix(MAX_ROWS).to_arrow().select(names).to_pylist()
        return card(f"Coreset of {len(self):,}", facts, [list(row.values()) for row in rows], names)

    @property
    def fingerprint(self) -> str:
        """Equal for equal picks in equal order from equal parents."""
        return fingerprint(np.asarray(self.indices, np.int64), dict(self.parents))

    def prefix(self, budget: int) -> Selection:
        """Keep the first ``budget`` picks."""
        labels = None if self.labels is None else self.labels[:budget]
        return dataclasses.replace(
            self,
            indices=self.indices[:budget],
            rounds=self.rounds[:budget],
            clusters=self.clusters[:budget],
            similarities=self.similarities[:budget],
            ids=self.ids[:budget],
            uris=self.uris[:budget],
            labels=labels,
            stop_reason=self.stop_reason if budget >= len(self) else "budget",
        )

    def to_arrow(self) -> pa.Table:
        """One row a pick: rank, index, id, uri, round, cluster, similarity, and label where labels are known."""
        names = self.ids or tuple(map(str, self.indices.tolist()))
        columns: dict[str, pa.Array] = {
            "rank": pa.array(np.arange(len(self), dtype=np.int64)),
            "index": pa.array(np.asarray(self.indices, np.int64)),
            "id": pa.array(names, pa.string()),
            "uri": pa.array(self.uris or names, pa.string()),
            "round": pa.array(np.asarray(self.rounds, np.int32)),
            "cluster": pa.array(np.asarray(self.clusters, np.int32)),
            "similarity": pa.array(np.asarray(self.similarities, np.float32), from_pandas=True),
        }
        if self.labels is not None:
            columns["label"] = pa.array(self.labels, pa.int64(), mask=self.labels < 0)
        return pa.table(columns)

    def to_pandas(self) -> pd.DataFrame:
        """Give the picks as a pandas frame; ``SimcoreError`` where pandas is not installed."""
        try:
            return self.to_arrow().to_pandas()
        except ImportError as error:
            raise SimcoreError("to_pandas needs an extra: pip install 'simcore[pandas]'") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the Parquet file of the contract, whole or not at all."""
        meta = {
            "format": SELECTION_FORMAT,
            "settings": dict(self.settings),
            "parents": dict(self.parents),
            "seed": self.settings.get("seed"),
            "stop_reason": self.stop_reason,
            "objective": list(self.objective),
            "num_invalid": self.num_invalid,
            "classes": list(self.classes),
        }
        table = self.to_arrow().replace_schema_metadata({"simcore": json.dumps(meta, ensure_ascii=False)})
        with written_aside(path) as aside:
            pq.write_table(table, aside)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Selection:
        """Read a file that :meth:`save` wrote; ``SimcoreError`` where it is missing or another kind of file."""
        try:
            table = pq.read_table(path)
            meta = parse_json((table.schema.metadata or {})[b"simcore"])
        except FileNotFoundError as error:
            raise SimcoreError(f"{path}: no such file") from error
        except (OSError, pa.ArrowInvalid, KeyError, ValueError) as error:
            raise SimcoreError(f"{path}: not a coreset that `simcore select` wrote") from error
        labels = None
        if "label" in table.column_names:
            labels = np.asarray(table["label"].combine_chunks().fill_null(-1).to_numpy(zero_copy_only=False), np.int64)
        similarities = table["similarity"].combine_chunks().to_numpy(zero_copy_only=False)
        return cls(
            indices=table["index"].to_numpy(),
            rounds=table["round"].to_numpy(),
            clusters=table["cluster"].to_numpy(),
            similarities=np.asarray(similarities, np.float32),
            stop_reason=meta["stop_reason"],
            objective=tuple(meta["objective"]),
            num_invalid=meta["num_invalid"],
            ids=tuple(table["id"].to_pylist()),
            uris=tuple(table["uri"].to_pylist()),
            labels=labels,
            classes=tuple(meta["classes"]),
            settings=meta["settings"],
            parents=meta["parents"],
        )
