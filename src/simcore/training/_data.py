"""Batches for pretraining: a plan of rows, decoding ahead, and views made on the training device."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import torch
from lightning_fabric import Fabric
from torch import Tensor

from simcore.artifacts.files import fingerprint
from simcore.errors import SimcoreWarning
from simcore.images.source import ImageSource
from simcore.training._decoding import Cache, DecodedBatch, Decoder, decoded
from simcore.training._plan import BatchPlan
from simcore.training.trainable import ViewBatch
from simcore.views import ImageBatch


class Views(Protocol):
    """Make the training views of a batch; every draw comes from the CPU generator."""

    def __call__(self, batch: ImageBatch, generator: torch.Generator) -> Sequence[Tensor]:
        """Give float32 views, each [B, 3, S, S]."""


class ViewBatches:
    """The batches of a pretraining run: views on the device.

    An unreadable image is left out of its batch, and counted; a batch with fewer than ``min_batch`` readable
    images is passed over. Images are decoded ahead, across the ends of epochs.
    """

    def __init__(
        self,
        source: ImageSource,
        decoder: Decoder | Cache,
        plan: BatchPlan,
        views: Views,
        fabric: Fabric,
        *,
        num_workers: int,
        channels_last: bool = False,
    ) -> None:
        self.source, self.decoder, self.plan, self.views, self.fabric = source, decoder, plan, views, fabric
        self.num_workers, self.channels_last = num_workers, channels_last
        self._stream: Iterator[DecodedBatch] | None = None
        self._next = (-1, -1)
        self._faults: dict[int, str] = {}
        self._told: set[int] = set()
        self._unreadable: dict[int, int] = {}

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch."""
        return self.plan.steps_per_epoch

    def __call__(self, epoch: int, skip_steps: int) -> Iterator[ViewBatch | None]:
        """Yield the views of each batch of ``epoch`` from number ``skip_steps`` on."""
        for step in range(skip_steps, self.steps_per_epoch):
            batch = self._decoded(epoch, step)
            self._note_faults(epoch, batch)
            images = self._agreed(batch.images)
            yield None if images is None else self._make_views(images, batch.rows, epoch, step)

    def _decoded(self, epoch: int, step: int) -> DecodedBatch:
        if self._stream is None or self._next != (epoch, step):
            pin = self.fabric.device.type == "cuda"
            self._stream = decoded(self.decoder, self.plan.rows_from(epoch, step), self.num_workers, pin_memory=pin)
        self._next = (epoch, step + 1) if step + 1 < self.steps_per_epoch else (epoch + 1, 0)
        return next(self._stream)

    def close(self) -> None:
        """End the worker processes."""
        self._stream = None

    def _note_faults(self, epoch: int, batch: DecodedBatch) -> None:
        self._unreadable[epoch] = self._unreadable.get(epoch, 0) + len(batch.faults)
        self._faults.update(batch.faults)

    def _agreed(self, images: ImageBatch | None) -> ImageBatch | None:
        """Cut the batch to the size that every process has; None where that is too small to train on."""
        size = len(images) if images is not None else 0
        if self.fabric.world_size > 1:
            shared = torch.tensor(size, device=self.fabric.device)
            torch.distributed.all_reduce(shared, op=torch.distributed.ReduceOp.MIN)
            size = int(shared)
        if images is None or size < self.plan.min_batch:
            return None
        return images if size == len(images) else ImageBatch(images.pixels[:size], images.sizes[:size])

    def _make_views(self, images: ImageBatch, rows: Sequence[int], epoch: int, step: int) -> ViewBatch:
        seed = fingerprint("views", self.plan.seed, epoch, step, self.plan.rank)
        generator = torch.Generator().manual_seed(int(seed, 16) % 2**63)
        views = list(self.views(images.to(self.fabric.device, non_blocking=True), generator))
        if self.channels_last:
            views = [view.contiguous(memory_format=torch.channels_last) for view in views]
        is_target = torch.tensor(rows[: len(images)]) < self.plan.num_target
        return ViewBatch(views=views, is_target=is_target)

    def describe(self, epoch: int, step_in_epoch: int) -> str:
        """Name the first images of a batch."""
        rows = self.plan.global_rows(epoch, step_in_epoch).tolist()
        more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
        return f"images {', '.join(self._name(row) for row in rows[:3])}{more}"

    def _name(self, row: int) -> str:
        return str(self.source.table["id"][row].as_py())

    def counts(self, epoch: int) -> Mapping[str, int]:
        """Count what the epoch used and left out; of unreadable images, those this process met."""
        unreadable = self._unreadable.pop(epoch, 0)
        self._warn_of_faults()
        return {
            "num_images": self.plan.images_per_epoch - unreadable,
            "images_left_out": self.plan.num_images - self.plan.images_per_epoch,
            "num_unreadable": unreadable,
        }

    def _warn_of_faults(self) -> None:
        """Tell of each unreadable image once."""
        new = {row: why for row, why in sorted(self._faults.items()) if row not in self._told}
        self._told |= new.keys()
        if new:
            named = "; ".join(f"{self._name(row)} ({why})" for row, why in itertools.islice(new.items(), 3))
            more = f" and {len(new) - 3} more" if len(new) > 3 else ""
            message = f"{len(new)} unreadable images are left out of training: {named}{more}"
            warnings.warn(message, SimcoreWarning, stacklevel=2)
