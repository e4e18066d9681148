"""One run of learning from labelled and unlabelled images: data in, a network and its figures out."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning_fabric import Fabric

from simcore.embedding import Encoder
from simcore.errors import SimcoreError
from simcore.images import ImageSource
from simcore.registry import name_of
from simcore.tasks._labels import Labels
from simcore.tasks._metrics import accuracies, describe
from simcore.tasks._semi_batches import SemiBatches
from simcore.tasks._semi_models import Basis, SemiModel
from simcore.tasks._supervised import Network, answers_on_images, fresh_head
from simcore.tasks._tuned import label_counts
from simcore.tasks._unlabelled import Unlabelled
from simcore.training import fit, make_fabric

if TYPE_CHECKING:
    from simcore.tasks._semi_task import SemiTask


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """One run: labelled and unlabelled images in, a network and its figures out.

    Attributes:
        images, labels: the labelled images and the number of each one's class, int64 [n].
        unlabelled: the others; their labels, if they have any, are never looked at.
        test: test images of known classes.
        state: folder of the training's state; None keeps none.
    """

    task: SemiTask
    encoder: Encoder
    images: ImageSource
    labels: Labels
    unlabelled: Unlabelled
    test: ImageSource
    classes: tuple[str, ...]
    state: Path | None
    quiet: bool

    @property
    def shares(self) -> torch.Tensor:
        """Share of each class among the labels in use, float32 [num_classes]."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        return torch.from_numpy(counts / counts.sum()).float()

    def basis(self) -> Basis:
        """Make what every model begins with: a copy of the encoder's backbone and a fresh head."""
        head = fresh_head(self.encoder.dim, len(self.classes), self.task.seed)
        return Basis(
            network=Network(copy.deepcopy(self.encoder.backbone).requires_grad_(True), head),
            dim=self.encoder.dim,
            num_classes=len(self.classes),
            seed=self.task.seed,
            ema_decay=self.task.ema_decay,
        )

    def solve(self) -> tuple[dict[str, float], dict[str, Any], Network]:
        """Train and measure: metrics, details and the network."""
        counts = label_counts(self.labels, self.classes)
        model, (num_unread, num_unread_unlabelled) = self._train()
        answers, _, num_skipped = answers_on_images(
            model.chosen, self.encoder, self.test, self.classes, num_workers=self.task.num_workers, quiet=self.quiet
        )
        details: Mapping[str, Any] = {
            **counts,
            "num_unlabelled": len(self.unlabelled),
            "num_unlabelled_added": self.unlabelled.num_added,
            "num_train_skipped": num_unread,
            "num_unlabelled_skipped": num_unread_unlabelled,
            "num_test_skipped": num_skipped,
            **self.task.details(self, model),
            **describe(answers, self.classes, seed=self.task.seed),
        }
        return accuracies(answers), dict(details), model.chosen

    def _train(self) -> tuple[SemiModel, tuple[int, int]]:
        """Run the loop; give the model and the numbers of unreadable labelled and unlabelled images."""
        settings = self.task.fit_settings()
        fabric = make_fabric(settings.device, settings.precision)
        model = self.task.build(self, fabric)
        if fabric.device.type == "cuda":
            model.to(memory_format=torch.channels_last)  # quicker there
        with contextlib.closing(self._batches(fabric)) as batches:
            fit(
                model,
                batches,
                settings,
                fabric=fabric,
                out=self.state,
                resume=True,
                label=name_of(self.task),
                quiet=self.quiet,
                on_epoch=self.task.on_epoch(self, model),
            )
            num_unread = batches.num_unreadable
        for kind, num, total in zip(
            ("labelled", "unlabelled"), num_unread, (len(self.images), len(self.unlabelled)), strict=True
        ):
            if num == total:
                raise SimcoreError(f"none of the {num} {kind} images could be read")
        return model, num_unread

    def _batches(self, fabric: Fabric) -> SemiBatches:
        task = self.task
        of_labelled, of_unlabelled = task.num_views
        num_unlabelled = task.batch_size * task.unlabelled_per_labelled
        return SemiBatches(
            (self.images, self.labels, task.weak_strong(self.encoder, *of_labelled), task.batch_size),
            (self.unlabelled.images, task.weak_strong(self.encoder, *of_unlabelled), num_unlabelled),
            task.loading(quiet=self.quiet),
            fabric,
            steps_per_epoch=task.steps_per_epoch,
            seed=task.seed,
        )
