"""Batches of labelled and unlabelled images side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import Tensor

from simcore.artifacts.files import fingerprint
from simcore.images import ImageSource
from simcore.tasks._loading import Loading
from simcore.training._data import ViewBatches
from simcore.training._plan import BatchPlan
from simcore.views import WeakStrong


@dataclasses.dataclass(frozen=True, kw_only=True)
class SemiBatch:
    """What a step of learning with unlabelled images gets.

    Shape:
        labelled: views float32 [n, 3, S, S], weak ones first.
        labels: int64 [n].
        unlabelled: views float32 [m, 3, S, S], weak ones first.
        rows: int64 [m], which unlabelled images they are.
    """

    labelled: Sequence[Tensor]
    labels: Tensor
    unlabelled: Sequence[Tensor]
    rows: Tensor

    def to(self, device: torch.device) -> SemiBatch:
        """Give the batch on ``device``."""
        return SemiBatch(
            labelled=[view.to(device) for view in self.labelled],
            labels=self.labels.to(device),
            unlabelled=[view.to(device) for view in self.unlabelled],
            rows=self.rows.to(device),
        )


class SemiBatches:
    """Two endless rows of shuffled passes, one over the labelled and one over the unlabelled images, step by step.

    Each batch has ``batch_size`` labelled and ``unlabelled_size`` unlabelled images, or all where there are fewer.
    A class that an unlabelled image may have is never looked at.
    """

    def __init__(
        self,
        labelled: tuple[ImageSource, npt.NDArray[np.int64], WeakStrong, int],
        unlabelled: tuple[ImageSource, WeakStrong, int],
        loading: Loading,
        fabric: Fabric,
        *,
        steps_per_epoch: int,
        seed: int,
    ) -> None:
        """Take (images, labels, views, batch size) of one kind, and (images, views, batch size) of the other.

        Each kind gets half of the memory and of the decoding processes.
        """
        loading = dataclasses.replace(loading, share=2)
        images, labels, views, size = labelled
        self.labels = torch.from_numpy(labels)
        self.labelled = _endless(images, views, size, loading, fabric, steps=steps_per_epoch, seed=seed)
        other_seed = int(fingerprint("unlabelled", seed), 16) % 2**63
        self.unlabelled = _endless(*unlabelled, loading, fabric, steps=steps_per_epoch, seed=other_seed)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch, as many as were asked for."""
        return self.labelled.steps_per_epoch

    def __call__(self, epoch: int, skip_steps: int) -> Iterator[SemiBatch | None]:
        """Yield the batches of ``epoch`` from number ``skip_steps`` on; None where one side could not be read."""
        pairs = zip(self.labelled(epoch, skip_steps), self.unlabelled(epoch, skip_steps), strict=True)
        for known, other in pairs:
            if known is None or other is None or known.rows is None or other.rows is None:
                yield None
                continue
            yield SemiBatch(
                labelled=known.views, labels=self.labels[known.rows], unlabelled=other.views, rows=other.rows
            )

    def describe(self, epoch: int, step_in_epoch: int) -> str:
        """Name the first images of both kinds."""
        known, other = (side.describe(epoch, step_in_epoch) for side in (self.labelled, self.unlabelled))
        return f"labelled {known}; unlabelled {other}"

    def counts(self, epoch: int) -> Mapping[str, int]:
        """Count what could not be read of either kind."""
        known, other = (side.counts(epoch)["num_unreadable"] for side in (self.labelled, self.unlabelled))
        return {"num_unreadable": known, "num_unreadable_unlabelled": other}

    @property
    def num_unreadable(self) -> tuple[int, int]:
        """How many labelled and unlabelled images this process could not read so far."""
        return self.labelled.num_unreadable, self.unlabelled.num_unreadable

    def close(self) -> None:
        """End the decoding processes."""
        self.labelled.close()
        self.unlabelled.close()


def _endless(
    images: ImageSource, views: WeakStrong, size: int, loading: Loading, fabric: Fabric, *, steps: int, seed: int
) -> ViewBatches:
    """Make batches of ``size`` images, ``steps`` an epoch."""
    plan = BatchPlan(
        num_images=len(images),
        batch_size=size,
        seed=seed,
        min_batch=1,
        fixed_steps=steps,
        world_size=fabric.world_size,
        rank=fabric.global_rank,
    )
    return ViewBatches(
        images,
        loading.decoder(images, views, fabric),
        plan,
        views,
        fabric,
        num_workers=loading.workers(fabric),
        channels_last=fabric.device.type == "cuda",
    )
