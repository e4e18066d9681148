"""A coreset that is chosen anew in the course of a run, with the encoder as it is by then."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterator, Mapping

from simcore.errors import UsageError
from simcore.images.source import ImageSource
from simcore.training._data import ViewBatches
from simcore.training.settings import PretrainSettings
from simcore.training.trainable import ViewBatch

MakeBatches = Callable[[ImageSource, int | None], ViewBatches]


def stage_starts(num_epochs: int, sampling_times: int) -> list[int]:
    """Give the epochs (from 0) at which the second and later coresets begin, evenly spread as published."""
    if sampling_times > num_epochs:
        raise UsageError(f"--sampling-times is {sampling_times}, but the run has only {num_epochs} epochs")
    return [int(num_epochs / sampling_times * number) for number in range(1, sampling_times)]


class StagedBatches:
    """Batches of one coreset after the other; an epoch keeps the number of steps that it has with the first."""

    def __init__(
        self, make: MakeBatches, first: ImageSource, settings: PretrainSettings, choose: Callable[[int], ImageSource]
    ) -> None:
        """``make(coreset, fixed_steps)`` makes batches; ``choose(stage)`` gives the coreset of stage 1, 2, …"""
        self._make, self._choose = make, choose
        self._stage, self._batches = 0, make(first, None)
        self.steps_per_epoch = self._batches.steps_per_epoch
        steps = settings.max_steps
        num_epochs = settings.epochs if steps is None else math.ceil(steps / self.steps_per_epoch)
        self._starts = stage_starts(num_epochs, settings.sampling_times)

    def __call__(self, epoch: int, skip_steps: int) -> Iterator[ViewBatch | None]:
        """Yield the batches of ``epoch``, with the coreset of its stage."""
        stage = bisect.bisect_right(self._starts, epoch)
        if stage != self._stage:
            self.close()
            self._stage, self._batches = stage, self._make(self._choose(stage), self.steps_per_epoch)
        yield from self._batches(epoch, skip_steps)

    def describe(self, epoch: int, step_in_epoch: int) -> str:
        """Name the first images of a batch."""
        return self._batches.describe(epoch, step_in_epoch)

    def counts(self, epoch: int) -> Mapping[str, int]:
        """Count what the epoch used and left out, and say which coreset it had."""
        return {**self._batches.counts(epoch), "coreset": self._stage + 1}

    def close(self) -> None:
        """End the worker processes."""
        self._batches.close()
