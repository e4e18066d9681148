"""Batches of images whose labels may be wrong: plain ones, and ones divided for DivideMix."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import Tensor

from simcore.artifacts.files import fingerprint
from simcore.images import ImageSource
from simcore.tasks._labels import Labels
from simcore.tasks._loading import Loading
from simcore.training._data import ViewBatches
from simcore.training._decoding import Cache, Decoder
from simcore.training._plan import BatchPlan, Rows
from simcore.views import WeakStrong

Clean = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoisyBatch:
    """What a step of learning with noisy labels gets.

    Shape:
        views: float32 [n, 3, S, S] each.
        labels: int64 [n], some of them wrong.
        rows: int64 [n], which images they are.
        sizes: how many of the n, one after the other, make each part. One part as a rule; in a divided batch four:
            the labelled and the unlabelled images of the first network, then those of the second.
    """

    views: Sequence[Tensor]
    labels: Tensor
    rows: Tensor
    sizes: tuple[int, ...]

    def to(self, device: torch.device) -> NoisyBatch:
        """Give the batch on ``device``."""
        return NoisyBatch(
            views=[view.to(device) for view in self.views],
            labels=self.labels.to(device),
            rows=self.rows.to(device),
            sizes=self.sizes,
        )

    def parts(self) -> list[NoisyBatch]:
        """Take the parts apart."""
        sizes = list(self.sizes)
        views = [torch.split(view, sizes) for view in self.views]
        rest = zip(torch.split(self.labels, sizes), torch.split(self.rows, sizes), strict=True)
        return [
            NoisyBatch(views=[view[part] for view in views], labels=labels, rows=rows, sizes=(len(rows),))
            for part, (labels, rows) in enumerate(rest)
        ]

    def __len__(self) -> int:
        return len(self.rows)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class DividedPlan(BatchPlan):
    """A plan whose batches are divided once it is known which images each network may take for clean.

    Then a batch has four parts of up to ``full_batch`` images, each cut from endless shuffled passes over its own
    images: for each network those that are ``clean`` to it, and the others. An epoch keeps its number of steps.

    Attributes:
        clean: bool [2, num_images]; None gives the plain batches of a BatchPlan.
    """

    clean: Clean | None = None

    def global_rows(self, epoch: int, step_in_epoch: int) -> Rows:
        """Give the rows of one batch over all processes, part by part."""
        if self.clean is None:
            return super().global_rows(epoch, step_in_epoch)
        return np.concatenate(self._parts(self.clean, epoch, step_in_epoch))

    def sizes(self, rows: Rows, epoch: int, step_in_epoch: int) -> tuple[int, ...]:
        """Say how many of the readable ``rows`` of this process's batch belong to each part."""
        if self.clean is None:
            return (len(rows),)
        parts = [part[self.rank :: self.world_size] for part in self._parts(self.clean, epoch, step_in_epoch)]
        ends = np.cumsum([np.isin(part, rows).sum() for part in parts])
        # Where another process could read fewer, the end of this batch has been cut off.
        return tuple(np.diff(np.minimum(ends, len(rows)), prepend=0).tolist())

    def _parts(self, clean: Clean, epoch: int, step_in_epoch: int) -> list[Rows]:
        masks = [mask for held in clean for mask in (held, ~held)]
        return [self._cut(np.flatnonzero(mask), part, epoch, step_in_epoch) for part, mask in enumerate(masks)]

    def _cut(self, rows: Rows, part: int, epoch: int, step_in_epoch: int) -> Rows:
        if len(rows) < self.world_size:
            return rows[:0]
        passes = BatchPlan(
            num_images=len(rows),
            batch_size=self.batch_size,
            seed=int(fingerprint("part", self.seed, part), 16) % 2**63,
            min_batch=1,
            fixed_steps=self.steps_per_epoch,
            world_size=self.world_size,
        )
        return rows[passes.global_rows(epoch, step_in_epoch)]


class NoisyViews(ViewBatches):
    """Batches of images with labels; before each epoch ``division`` may say how they are to be divided."""

    plan: DividedPlan

    def __init__(
        self, labels: Labels, *parts: Any, division: Callable[[int], Clean | None] | None = None, **options: Any
    ) -> None:
        """Take the label of each row of the source, then what :class:`ViewBatches` takes.

        ``division`` gives, for the number of an epoch, bool [2, n] or None for an epoch of plain batches.
        """
        super().__init__(*parts, **options)
        self.labels, self.division = torch.from_numpy(labels), division

    def __call__(self, epoch: int, skip_steps: int) -> Iterator[Any]:
        """Yield the batches of ``epoch`` from number ``skip_steps`` on; None for one without readable images."""
        if self.division is not None:
            self.plan = dataclasses.replace(self.plan, clean=self.division(epoch))
            self.close()  # what was decoded ahead belongs to the division of before
        for step, batch in enumerate(super().__call__(epoch, skip_steps), skip_steps):
            if batch is None or batch.rows is None:
                yield None
                continue
            sizes = self.plan.sizes(batch.rows.numpy(), epoch, step)
            yield NoisyBatch(views=batch.views, labels=self.labels[batch.rows], rows=batch.rows, sizes=sizes)


def noisy_views(
    images: ImageSource,
    labels: Labels,
    decoder: Decoder | Cache,
    views: WeakStrong,
    loading: Loading,
    fabric: Fabric,
    *,
    seed: int,
    batch_size: int,
    division: Callable[[int], Clean | None] | None = None,
) -> NoisyViews:
    """Make the batches: each image once an epoch, in an order drawn from (seed, epoch), unless divided."""
    plan = DividedPlan(
        num_images=len(images),
        batch_size=batch_size,
        seed=seed,
        world_size=fabric.world_size,
        rank=fabric.global_rank,
    )
    return NoisyViews(
        labels,
        images,
        decoder,
        plan,
        views,
        fabric,
        num_workers=loading.workers(fabric),
        channels_last=fabric.device.type == "cuda",
        division=division,
    )
