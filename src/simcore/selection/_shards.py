"""A shard of a pool: some consecutive rows, opened and ranked in a process of its own, perhaps on another machine."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from simcore.artifacts import Embeddings
from simcore.artifacts.embeddings import ROWS_SCHEMA
from simcore.artifacts.parts import PartedArray
from simcore.errors import SimcoreError
from simcore.selection._features import Features, Float32, Mask, Rows
from simcore.selection._merging import ShardRanked
from simcore.selection._queues import PoolScores, Scores
from simcore.selection._space import Space

Answer = TypeVar("Answer")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Shard:
    """Rows [start, stop) of a pool and where to find them.

    Attributes:
        stretches: rows of files as (path, first row, row after the last), in order; where the pool is in memory, none.
        barred: rows that must not be chosen, counted from ``start``.
        num_threads: cores to use for it.
    """

    start: int
    stop: int
    stretches: tuple[tuple[str, int, int], ...]
    barred: Rows
    num_threads: int

    def open(self, arrays: Sequence[npt.NDArray[Any]]) -> Features:
        """Map the files, or take the rows sent along; ``SimcoreError`` where a file cannot be read on this node."""
        parts = arrays or [_mapped(path)[low:high] for path, low, high in self.stretches]
        table = ROWS_SCHEMA.empty_table()
        return Features(Embeddings(features=PartedArray(parts), table=table, barred=self.barred))


def cut(pool: Embeddings, num_shards: int, num_threads: int) -> list[Shard]:
    """Cut a pool into shards of as many rows each, one more or less."""
    bounds = [len(pool) * number // num_shards for number in range(num_shards + 1)]
    barred = np.sort(pool.barred) if pool.barred is not None else np.zeros(0, np.int64)
    return [
        Shard(
            start=start,
            stop=stop,
            stretches=_stretches(pool, start, stop),
            barred=barred[slice(*np.searchsorted(barred, (start, stop)))] - start,
            num_threads=num_threads,
        )
        for start, stop in itertools.pairwise(bounds)
    ]


def _stretches(pool: Embeddings, start: int, stop: int) -> tuple[tuple[str, int, int], ...]:
    """Say which rows of which files make up [start, stop); nothing where a part of the pool is in no file."""
    found, first = [], 0
    for part in pool.features.parts:
        path = _file_of(part)
        if path is None:
            return ()
        low, high = max(0, start - first), min(len(part), stop - first)
        if low < high:
            found.append((path, low, high))
        first += len(part)
    return tuple(found)


def _file_of(part: npt.NDArray[Any]) -> str | None:
    """Name the file that an array is the whole of, None where there is none."""
    owner: Any = part
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    if not isinstance(owner, np.memmap) or owner.filename is None:
        return None
    same = (owner.shape, owner.dtype, owner.ctypes.data) == (part.shape, part.dtype, part.ctypes.data)
    return str(owner.filename) if same else None


def _mapped(path: str) -> npt.NDArray[Any]:
    try:
        mapped: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise SimcoreError(
            f"{path} cannot be read on a node of the Ray cluster ({error}); "
            "a store must lie on storage that all nodes share"
        ) from error
    return mapped


class ShardWorker:
    """Answers for one shard. A request says all that the answer depends on; what is kept between them saves work."""

    def __init__(self) -> None:
        self._features: dict[str, Features] = {}
        self._scores: tuple[str, PoolScores] | None = None

    def process(self) -> int:
        """Give the number of this process."""
        return os.getpid()

    def run(
        self,
        shard: Shard,
        arrays: Sequence[npt.NDArray[Any]],
        key: str,
        space: Space | None,
        work: Callable[..., Answer],
        *args: Any,
    ) -> Answer:
        """Do ``work(features, first row, *args)`` on the rows seen in ``space``, which ``key`` stands for."""
        return work(self._seen(shard, arrays, key, space), shard.start, *args)

    def rank(
        self,
        shard: Shard,
        arrays: Sequence[npt.NDArray[Any]],
        key: str,
        space: Space | None,
        scores_key: str,
        centroids: Float32,
        budget: int,
        clusters: Rows,
        depth: int,
        taken: npt.NDArray[np.uint8],
    ) -> ShardRanked:
        """Rank the best rows for some centroids, without those ``taken`` (a bit each).

        ``scores_key`` stands for centroids and budget. With no clusters, it only makes the pass over the rows.
        """
        features = self._seen(shard, arrays, key, space)
        if self._scores is None or self._scores[0] != scores_key:
            self._scores = scores_key, features.scores(centroids, budget)
            self._scores[1].prepare()
        mask = np.unpackbits(taken, count=features.num_rows).view(np.bool_) if len(taken) else None
        return rank(self._scores[1], features, shard.start, clusters, depth, mask)

    def _seen(self, shard: Shard, arrays: Sequence[npt.NDArray[Any]], key: str, space: Space | None) -> Features:
        os.environ["OMP_NUM_THREADS"] = str(shard.num_threads)  # Ray sets 1 where no number of CPUs is reserved
        if key not in self._features:
            rows = shard.open(arrays)
            self._features = {key: rows if space is None else rows.placed(space)}
        return self._features[key]


def rank(scores: Scores, features: Features, start: int, clusters: Rows, depth: int, taken: Mask | None) -> ShardRanked:
    """Rank a shard's rows not ``taken``, and say of which clusters the list holds all of them.

    Rows come counted from the pool's first, of which the shard's is number ``start``.
    """
    free = features.valid if taken is None else features.valid & ~taken
    num_free = int(np.count_nonzero(free))
    if not len(clusters) or not num_free:
        return ShardRanked.of_nothing(clusters)
    found = scores.best(clusters, min(depth, num_free), ~free)
    listed = found.indices >= 0
    counts = listed.sum(axis=1)
    values = np.asarray(found.values[listed], np.float32)
    return ShardRanked(clusters, counts, found.indices[listed] + start, values, counts == num_free)
