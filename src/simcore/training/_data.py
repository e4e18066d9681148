"""Batches for pretraining: a plan of rows, decoding ahead, and views made on the training device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from lightning_fabric import Fabric
from torch import Tensor

from simcore.artifacts.files import fingerprint
from simcore.images.source import ImageSource
from simcore.training._decoding import PIECE, Cache, Decoder, Piece, decoded
from simcore.training._faults import Faults, name_of_row
from simcore.training._plan import BatchPlan
from simcore.training.trainable import ViewBatch, Views
from simcore.views import joined


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
        self._faults = Faults(source)
        self._stream: Iterator[Piece] | None = None
        self._next = (-1, -1)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch."""
        return self.plan.steps_per_epoch

    def __call__(self, epoch: int, skip_steps: int) -> Iterator[ViewBatch | None]:
        """Yield the views of each batch of ``epoch`` from number ``skip_steps`` on."""
        for step in range(skip_steps, self.steps_per_epoch):
            pieces = self.decoded(epoch, step)
            for piece in pieces:
                self._faults.note(epoch, piece.faults)
            size = self._agreed_size(sum(len(piece.rows) for piece in pieces))
            yield self.make_views(pieces, epoch, step, size) if size >= self.plan.min_batch else None

    def decoded(self, epoch: int, step: int) -> list[Piece]:
        """Give the pieces of one batch; quick if it follows the one asked for before."""
        if self._stream is None or self._next != (epoch, step):
            pieces = self.plan.pieces_from(epoch, step, PIECE)
            pin = self.fabric.device.type == "cuda"
            self._stream = decoded(self.decoder, pieces, self.num_workers, pin_memory=pin)
        self._next = (epoch, step + 1) if step + 1 < self.steps_per_epoch else (epoch + 1, 0)
        num_pieces = -(-len(self.plan.rows(epoch, step)) // PIECE)
        return [next(self._stream) for _ in range(num_pieces)]

    @property
    def num_unreadable(self) -> int:
        """How many images this process could not read so far."""
        return self._faults.num_rows

    def close(self) -> None:
        """End the worker processes."""
        self._stream = None

    def _agreed_size(self, num_readable: int) -> int:
        """Give the size of batch that every process can fill."""
        if self.fabric.world_size == 1:
            return num_readable
        shared = torch.tensor(num_readable, device=self.fabric.device)
        torch.distributed.all_reduce(shared, op=torch.distributed.ReduceOp.MIN)
        return int(shared)

    def make_views(self, pieces: Sequence[Piece], epoch: int, step: int, size: int) -> ViewBatch:
        """Make the views of the first ``size`` images.

        The draws depend on seed, epoch, step and process alone; of more than ``PIECE`` images, an accelerator's are
        others than a CPU's.
        """
        seed = fingerprint("views", self.plan.seed, epoch, step, self.plan.rank)
        generator = torch.Generator().manual_seed(int(seed, 16) % 2**63)
        images = [
            piece.images.to(self.fabric.device, non_blocking=True) for piece in pieces if piece.images is not None
        ]
        if self.fabric.device.type != "cpu":
            images = joined(images)  # beginning an operation costs an accelerator more than a few images more
        made = [self.views(part, generator) for part in images]
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        views = [_joined(parts)[:size].contiguous(memory_format=layout) for parts in zip(*made, strict=True)]
        rows = torch.tensor([row for piece in pieces for row in piece.rows])[:size]
        return ViewBatch(views=views, is_target=rows < self.plan.num_target, rows=rows)

    def describe(self, epoch: int, step_in_epoch: int) -> str:
        """Name the first images of a batch."""
        rows = self.plan.global_rows(epoch, step_in_epoch).tolist()
        more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
        return f"images {', '.join(name_of_row(self.source, row) for row in rows[:3])}{more}"

    def counts(self, epoch: int) -> Mapping[str, int]:
        """Count what the epoch used and left out; of unreadable images, those this process met."""
        num_unreadable = self._faults.end_epoch(epoch)
        return {
            "num_images": self.plan.images_per_epoch - num_unreadable,
            "images_left_out": max(0, self.plan.num_images - self.plan.images_per_epoch),
            "num_unreadable": num_unreadable,
        }


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
