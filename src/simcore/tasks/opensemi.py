"""Open-set semi-supervised learning: unlabelled images that may be of foreign classes."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import torch
from lightning_fabric import Fabric

from simcore.embedding import Embedder
from simcore.errors import SimcoreWarning, UsageError
from simcore.settings import setting
from simcore.tasks._features import BLOCK_ROWS
from simcore.tasks._open_models import OpenMatch, SelfTraining
from simcore.tasks._semi_losses import outlier_probability
from simcore.tasks._semi_models import SemiModel
from simcore.tasks._semi_problem import Problem
from simcore.tasks._semi_task import SemiTask
from simcore.tasks._supervised import Classifier, Network, encoder_around, labelled_views
from simcore.training import Moment, fit
from simcore.training.loop import OnEpoch
from simcore.views import Supervised

__all__ = ["OpenSemi"]

OUTLIER_FROM = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpenSemi(SemiTask):
    """Self-training or OpenMatch from a pretrained backbone (Kim et al. 2023, Table 6).

    The unlabelled images are the train images beyond the label budget together with ``unlabelled``: a foreign set,
    the whole pool or a coreset. Self-training fine-tunes a teacher on the labels, whose answers a student then learns
    beside the labels. OpenMatch judges after each epoch which unlabelled images are of a known class, and guesses
    labels for those alone. Recipe as published: half of the labels, 16,384 steps of 64 labelled images.
    """

    method: str = setting("self_training", "how they are learnt from", choices=("self_training", "openmatch"))
    label_ratio: float = setting(0.5, "share of the train images that keep their label; the rest is unlabelled")
    batch_size: int = setting(64, "labelled images a step (all, where there are fewer)")
    mu: int | None = setting(None, "unlabelled images for each labelled one (default: 1, openmatch 2)")
    teacher_epochs: int = setting(100, "self_training: passes over the labelled images that make the teacher")
    teacher_batch_size: int = setting(64, "self_training: images a step of the teacher")
    temperature: float = setting(1.0, "self_training: the teacher's scores are divided by this")
    unlabelled_weight: float = setting(0.5, "self_training: share of the loss on unlabelled images, from 0 to 1")
    start_epoch: int = setting(5, "openmatch: epochs after which labels are guessed")
    threshold: float = setting(0.0, "openmatch: least confidence of a guess that counts")
    entropy_weight: float = setting(0.1, "openmatch: weight of the inlier classifiers' entropy")
    consistency_weight: float = setting(0.5, "openmatch: weight of their agreement between two views")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range(0, 1, "unlabelled_weight", "threshold")
        self.check_range(0, math.inf, "entropy_weight", "consistency_weight")
        if not self.temperature > 0:
            raise UsageError(f"--temperature is {self.temperature:g}, but must be above 0")
        if self.start_epoch < 1:
            raise UsageError(f"--start-epoch is {self.start_epoch}, but must be at least 1")
        if self.teacher_batch_size < 2:
            raise UsageError(f"--teacher-batch-size is {self.teacher_batch_size}, but must be at least 2")
        self.fit_settings(epochs=self.teacher_epochs)

    @property
    def num_views(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Give how many (weak, strong) views of a labelled and of an unlabelled image the method takes."""
        return ((2, 0), (2, 1)) if self.method == "openmatch" else ((1, 0), (1, 0))

    @property
    def unlabelled_per_labelled(self) -> int:
        """Give ``mu``, the method's own where none is set."""
        return self.mu or (2 if self.method == "openmatch" else 1)

    def build(self, problem: Problem, fabric: Fabric) -> SemiModel:
        """Make the method's model; the teacher is trained here."""
        if self.method == "self_training":
            return SelfTraining(
                problem.basis(),
                teacher=self._teacher(problem, fabric),
                weight=self.unlabelled_weight,
                temperature=self.temperature,
            )
        return OpenMatch(
            problem.basis(),
            num_unlabelled=len(problem.unlabelled),
            entropy_weight=self.entropy_weight,
            consistency_weight=self.consistency_weight,
            threshold=self.threshold,
            start_epoch=self.start_epoch,
        )

    def _teacher(self, problem: Problem, fabric: Fabric) -> Network:
        """Fine-tune a network on the labels alone; its last epoch is the teacher."""
        encoder = problem.encoder
        basis = problem.basis()
        teacher = Classifier(
            basis.network.backbone,
            dim=basis.dim,
            num_classes=basis.num_classes,
            seed=basis.seed,
            keep_best=False,
        )
        views = Supervised(image_size=encoder.image_size, min_scale=self.min_scale, mean=encoder.mean, std=encoder.std)
        batches = labelled_views(
            problem.images,
            problem.labels,
            views,
            fabric,
            seed=self.seed,
            batch_size=self.teacher_batch_size,
            num_workers=self.num_workers,
            cache_mb=self.cache_mb,
            quiet=problem.quiet,
        )
        with contextlib.closing(batches):
            fit(
                teacher,
                batches,
                self.fit_settings(epochs=self.teacher_epochs),
                fabric=fabric,
                out=None if problem.state is None else problem.state / "teacher",
                resume=True,
                label="teacher",
                quiet=problem.quiet,
            )
        return teacher.network

    def on_epoch(self, problem: Problem, model: SemiModel) -> OnEpoch | None:
        """OpenMatch: judge the unlabelled images anew after each epoch."""
        return functools.partial(self._judge, problem, model) if isinstance(model, OpenMatch) else None

    def _judge(self, problem: Problem, model: OpenMatch, moment: Moment) -> dict[str, float]:
        """Note which unlabelled images the next epoch guesses labels for; an unreadable one is none of them."""
        last = moment.epoch + 1 == moment.num_epochs
        if moment.epoch + 1 < self.start_epoch and not last:
            return {}
        images = problem.unlabelled.images
        encoder = encoder_around(model.network.backbone, problem.encoder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SimcoreWarning)  # training tells of unreadable images, once
            rows = Embedder(encoder, num_workers=self.num_workers, dtype="float32", quiet=True)(images)
        outlier = torch.cat([self._outlier(model, block) for _, block in rows.features.blocks(BLOCK_ROWS)])
        places = pc.index_in(rows.table["uri"], value_set=images.table["uri"].combine_chunks())
        index = torch.from_numpy(np.asarray(places.to_numpy(), np.int64))
        inliers = torch.zeros(len(images))
        inliers[index] = (outlier < OUTLIER_FROM).float()
        model.inliers.copy_(inliers)
        return {"num_inliers": float(model.inliers.sum())}

    @torch.no_grad()
    def _outlier(self, model: OpenMatch, block: npt.NDArray[Any]) -> torch.Tensor:
        features = torch.from_numpy(np.asarray(block, np.float32)).to(model.inliers.device)
        return outlier_probability(model.network.head(features), model.open_logits(features)).cpu()

    def details(self, problem: Problem, model: SemiModel) -> dict[str, Any]:
        """OpenMatch: tell how many unlabelled images it holds for inliers in the end, by where they are from."""
        if not isinstance(model, OpenMatch):
            return {}
        own, added = model.inliers[: problem.unlabelled.num_own], model.inliers[problem.unlabelled.num_own :]
        return {"num_inliers": int(own.sum()), "num_inliers_added": int(added.sum())}
