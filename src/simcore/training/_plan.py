"""Which images make which batch: plain numbers, the same on every machine, worker count and resume."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from simcore.errors import SimcoreError, UsageError

Rows = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """Batches of rows for one process of ``world_size``, in an order drawn from (seed, epoch).

    An epoch is one pass over the images in shuffled order. Where there are fewer images than ``batch_size``, the
    batch shrinks to them. What is left after the last full batch makes a short one if every process gets at least
    ``min_batch`` of it (never with ``drop_last``); else it is left out of this epoch. No image is repeated to
    fill a batch, and every process takes equally many.

    With ``fixed_steps`` an epoch has that many full batches, however many images there are: they are cut from an
    endless row of shuffled passes. With ``target_share`` the first ``num_target`` rows make up that share of every
    batch; both parts then run through their own shuffled passes, and an epoch has as many steps as without.
    """

    num_images: int
    batch_size: int
    seed: int
    min_batch: int = 2
    drop_last: bool = False
    num_target: int = 0
    target_share: float | None = None
    fixed_steps: int | None = None
    world_size: int = 1
    rank: int = 0

    def __post_init__(self) -> None:
        needed = self.min_batch * self.world_size
        if self.num_images < needed:
            raise SimcoreError(f"training needs at least {needed} images, but there are {self.num_images}")
        if self.batch_size < needed:
            raise UsageError(f"--batch-size is {self.batch_size}, but must be at least {needed}")
        if self.target_share is not None and not 0 < self.num_target < self.num_images:
            raise UsageError("--target-share needs both a target and a coreset or pool beside it")

    @property
    def full_batch(self) -> int:
        """Images of a full batch over all processes."""
        return min(self.batch_size, self.num_images) // self.world_size * self.world_size

    @property
    def short_batch(self) -> int:
        """Images of the short batch that ends an epoch over all processes; 0 where there is none."""
        rest = self.num_images % self.full_batch // self.world_size * self.world_size
        usable = rest >= self.min_batch * self.world_size and not self.drop_last and not self._endless
        return rest if usable else 0

    @property
    def _endless(self) -> bool:
        return self.target_share is not None or self.fixed_steps is not None

    @property
    def steps_per_epoch(self) -> int:
        """At least 1, equal on all processes."""
        return self.fixed_steps or self.num_images // self.full_batch + (self.short_batch > 0)

    @property
    def images_per_epoch(self) -> int:
        """Images that an epoch uses over all processes."""
        return (self.steps_per_epoch - (self.short_batch > 0)) * self.full_batch + self.short_batch

    def rows(self, epoch: int, step_in_epoch: int) -> Rows:
        """Give this process's rows of one batch."""
        return self.global_rows(epoch, step_in_epoch)[self.rank :: self.world_size]

    def global_rows(self, epoch: int, step_in_epoch: int) -> Rows:
        """Give the rows of one batch over all processes."""
        step = epoch * self.steps_per_epoch + step_in_epoch
        if self.target_share is not None:
            return self._mixed(step, self.target_share)
        if self.fixed_steps is not None:
            return self._stream(0, self.num_images, step, self.full_batch)
        start = step_in_epoch * self.full_batch
        size = self.full_batch if start + self.full_batch <= self.num_images else self.short_batch
        return _shuffled(self.num_images, self.seed, epoch)[start : start + size]

    def pieces_from(self, epoch: int, step_in_epoch: int, size: int) -> Iterator[Rows]:
        """Give this process's rows from one batch on, over the ends of epochs, in pieces of at most ``size``.

        No piece reaches over the end of a batch: one of n rows comes in ``ceil(n / size)``.
        """
        for number in itertools.count(epoch):
            for step in range(step_in_epoch if number == epoch else 0, self.steps_per_epoch):
                rows = self.rows(number, step)
                for first in range(0, len(rows), size):
                    yield rows[first : first + size]

    def _mixed(self, step: int, share: float) -> Rows:
        num_target = min(max(1, round(share * self.full_batch)), self.full_batch - 1)
        target = self._stream(0, self.num_target, step, num_target)
        other = self._stream(self.num_target, self.num_images, step, self.full_batch - num_target)
        mixed = np.concatenate([target, other])
        return mixed[np.random.default_rng([self.seed, 2, step]).permutation(len(mixed))]  # even over processes

    def _stream(self, low: int, high: int, step: int, size: int) -> Rows:
        """Cut piece ``step`` of an endless row of shuffled passes over rows low … high-1."""
        num, start = high - low, step * size
        passes = range(start // num, (start + size - 1) // num + 1)
        run = np.concatenate([_shuffled(num, self.seed, number, low) for number in passes])
        offset = start - passes[0] * num
        return run[offset : offset + size] + low


@functools.lru_cache(maxsize=4)
def _shuffled(num: int, seed: int, number: int, stream: int = 0) -> Rows:
    order = np.random.default_rng([seed, 1, number, stream]).permutation(num)
    order.setflags(write=False)
    return order
