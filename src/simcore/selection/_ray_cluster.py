"""A pool looked at on a Ray cluster: each actor has a shard of its rows, this process merges what they say.

Selectors see :class:`Features` as ever. What has to look at all rows (validity, moments, nearness, the most similar
rows of each centroid) is done by the actors, on rows that they read from the store's own files. Their answers depend
on the rows alone and are put together in row order, so they are those of one process, bit for bit.

A request says all that its answer depends on. So an actor that dies is started again, on another node if need be, and
asked again.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from simcore.artifacts import Embeddings
from simcore.cluster import cause_of, connected, first_line
from simcore.errors import SimcoreError
from simcore.selection._features import Features, Float32, Mask, Rows
from simcore.selection._merging import ShardRanked, merge, stack
from simcore.selection._placed import PlacedFeatures
from simcore.selection._queues import Ranked
from simcore.selection._shards import ShardWorker, cut
from simcore.selection._space import Space

Answer = TypeVar("Answer")

MIN_SHARD_ROWS = 1 << 14
MAX_SHARDS = 256  # further cores work as threads of the actors: each shard adds to what is sent and merged
MAX_RESTARTS = 8
_ENTRIES_AT_ONCE = 1 << 24  # of all lists in one merge, some 60 bytes each


@contextlib.contextmanager
def on_cluster(pool: Embeddings, address: str | None) -> Iterator[Features]:
    """Share the rows of a pool out over the cluster at ``address`` while the context lasts.

    The nodes open the files of a store themselves; a pool in memory is sent to them.
    """
    with connected(address) as ray, contextlib.closing(_Crew(ray, pool)) as crew:
        yield ShardedFeatures(pool, crew)


class _Crew:
    """The actors and their shards."""

    def __init__(self, ray: Any, pool: Embeddings) -> None:
        cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
        num_shards = min(cores, MAX_SHARDS, -(-len(pool) // MIN_SHARD_ROWS))
        self.ray, self._keys = ray, itertools.count()
        self.shards = cut(pool, num_shards, max(1, cores // num_shards))
        self._arrays = [
            () if shard.stretches else ray.put([pool.features[shard.start : shard.stop]]) for shard in self.shards
        ]
        self._sent = [ray.put(shard) for shard in self.shards]
        kind = ray.remote(ShardWorker).options(
            max_restarts=MAX_RESTARTS, max_task_retries=MAX_RESTARTS, scheduling_strategy="SPREAD"
        )
        self.actors = [kind.remote() for _ in self.shards]

    def new_key(self) -> str:
        """Name what the actors may keep."""
        return str(next(self._keys))

    def ask(self, number: int, method: str, *args: Any) -> Any:
        """Send one actor a request; gives the reference of its answer."""
        return getattr(self.actors[number], method).remote(self._sent[number], self._arrays[number], *args)

    def answers(self, refs: Sequence[Any]) -> list[Any]:
        """Wait for answers; ``SimcoreError`` where an actor died too often."""
        try:
            found: list[Any] = self.ray.get(list(refs))
        except self.ray.exceptions.RayTaskError as error:
            raise cause_of(error) from error
        except self.ray.exceptions.RayError as error:
            raise SimcoreError(
                "a Ray worker with a part of the pool died again and again, perhaps for want of memory "
                f"({type(error).__name__}: {first_line(error)})"
            ) from error
        return found

    def close(self) -> None:
        """Leave nothing running."""
        for actor in self.actors:
            self.ray.kill(actor)


class _OnShards:
    """The half of :class:`Features` that looks at all rows, done by a crew."""

    num_rows: int
    _crew: _Crew
    _view: tuple[str, Any]  # what stands for the space in which rows are seen, and the space

    def over_shards(self, work: Callable[..., Answer], *args: Any) -> list[Answer]:
        """Do ``work(features, first row, *args)`` for each shard, in row order."""
        sent = [self._crew.ray.put(arg) for arg in args]
        numbers = range(len(self._crew.shards))
        return self._crew.answers([self._crew.ask(number, "run", *self._view, work, *sent) for number in numbers])

    @functools.cached_property
    def valid(self) -> Mask:
        """Which rows have a direction [num_rows]; costs a pass unless the actors have made one."""
        parts = self.over_shards(_valid_bits)
        counts = [shard.stop - shard.start for shard in self._crew.shards]
        flags = [np.unpackbits(bits, count=count) for bits, count in zip(parts, counts, strict=True)]
        return np.concatenate(flags).view(np.bool_)

    def scores(self, centroids: Float32, budget: int) -> ClusterScores:
        """Rank all rows for unit centroids [num_clusters, dim]."""
        return ClusterScores(self._crew, self._view, centroids, self.num_rows, budget)


class ShardedFeatures(_OnShards, Features):
    """Features of a pool on a cluster; single rows are read here."""

    def __init__(self, pool: Embeddings, crew: _Crew) -> None:
        super().__init__(pool)
        self._crew, self._view = crew, (crew.new_key(), None)

    def placed(self, space: Space) -> Features:
        """See the rows in a space."""
        return ShardedPlaces(self._embeddings, self._crew, space)


class ShardedPlaces(_OnShards, PlacedFeatures):
    """The same, seen in a space."""

    def __init__(self, pool: Embeddings, crew: _Crew, space: Space) -> None:
        super().__init__(pool, space, keep=False)
        self._crew, self._view = crew, (crew.new_key(), crew.ray.put(space))


def _valid_bits(features: Features, first_row: int) -> npt.NDArray[np.uint8]:
    return np.packbits(features.valid)


class ClusterScores:
    """Similarities of centroids to the rows of a pool on a cluster, ranked as they are asked for."""

    top_up = 0.3  # a request goes to all nodes: let it refill what is nearly empty too

    def __init__(self, crew: _Crew, view: tuple[str, Any], centroids: Float32, num_rows: int, budget: int) -> None:
        self._crew, self._view, self._shape = crew, view, (len(centroids), num_rows)
        # Four times an even share, and of that FeatureScores holds four times: more of a shard costs it another pass.
        share = -(-4 * budget // len(crew.shards))
        self._task = crew.new_key(), crew.ray.put(centroids), min(budget, share)

    @property
    def shape(self) -> tuple[int, int]:
        """(num_clusters, num_pool)."""
        return self._shape

    def prepare(self) -> None:
        """Make the first pass over the pool now."""
        self._ask(dict.fromkeys(range(len(self._crew.shards)), np.zeros(0, np.int64)), 0, None)

    def first_depth(self, budget: int) -> int:
        """Rank all that is surely read: a request costs more than a longer list."""
        return min(self.shape[1], -(-budget // self.shape[0]) + 16)

    def best(self, clusters: Rows, depth: int, taken: Mask | None) -> Ranked:
        """Rank for each of ``clusters`` up to ``depth`` of its most similar rows among those not ``taken``."""
        step = max(1, _ENTRIES_AT_ONCE // (len(self._crew.shards) * self._share(depth) + depth))
        groups = [clusters[first : first + step] for first in range(0, len(clusters), step)]
        return stack([self._best(group, depth, taken) for group in groups])

    def _share(self, depth: int) -> int:
        """Say how many rows to ask of a shard at first: its even share and three standard deviations."""
        even = depth / len(self._crew.shards)
        return min(depth, int(even + 3 * even**0.5) + 3)

    def _best(self, clusters: Rows, depth: int, taken: Mask | None) -> Ranked:
        """Merge the shards' lists; ask those whose lists were too short for longer ones."""
        asked = self._share(depth)
        owners = list(range(len(self._crew.shards)))
        answers = self._ask(dict.fromkeys(owners, clusters), asked, taken)
        while True:
            merged = merge(answers, clusters, depth)
            short = {n: s for n, s in zip(owners, merged.short, strict=True) if len(s)}
            if asked >= depth or not short:
                return merged.ranked
            asked = min(depth, 4 * asked)
            answers = [a.without(short[n]) if n in short else a for n, a in zip(owners, answers, strict=True)]
            answers += self._ask(short, asked, taken)
            owners += list(short)

    def _ask(self, wanted: Mapping[int, Rows], depth: int, taken: Mask | None) -> list[ShardRanked]:
        """Have some shards rank some clusters each; answers come in the order of ``wanted``."""
        refs = []
        for number, clusters in wanted.items():
            shard = self._crew.shards[number]
            bits = np.packbits(taken[shard.start : shard.stop]) if taken is not None else np.zeros(0, np.uint8)
            refs.append(self._crew.ask(number, "rank", *self._view, *self._task, clusters, depth, bits))
        return self._crew.answers(refs)
