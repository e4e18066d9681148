"""What the tasks on a few labels and many unlabelled images share: settings, data and the run."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from lightning_fabric import Fabric

from simcore.artifacts import Embeddings, Report
from simcore.embedding import Encoder
from simcore.errors import UsageError
from simcore.images import ImageSource
from simcore.registry import name_of
from simcore.settings import setting
from simcore.tasks._classes import match_classes
from simcore.tasks._labels import Labels, label_budget, plain_label_budget
from simcore.tasks._metrics import accuracies, describe
from simcore.tasks._semi_batches import Loading, SemiBatches
from simcore.tasks._semi_models import Basis, SemiModel
from simcore.tasks._supervised import Network, answers_on_images, fresh_head
from simcore.tasks._task import Task
from simcore.tasks._tuned import check_inputs, label_counts, save_tuned, state_folder
from simcore.tasks._unlabelled import Unlabelled, unlabelled_images
from simcore.training import FitSettings, fit, make_fabric
from simcore.training.loop import OnEpoch
from simcore.training.settings import OPTIMIZERS
from simcore.views import WeakStrong


@dataclasses.dataclass(frozen=True, kw_only=True)
class SemiTask(Task):
    """Tune backbone and head on labelled and unlabelled images, side by side in every step.

    A subclass names its methods, how many views they take, and builds their models.
    """

    takes_unlabelled: ClassVar[bool] = True

    label_ratio: float = setting(0.1, "share of the train images that keep their label; the rest is unlabelled")
    label_draw: str = setting("stratified", "how those are drawn", choices=("stratified", "plain"))
    epochs: int = setting(32, "stretches of --steps-per-epoch steps")
    steps_per_epoch: int = setting(512, "steps of an epoch")
    batch_size: int = setting(256, "labelled images a step (all, where there are fewer)")
    mu: int | None = setting(None, "unlabelled images for each labelled one (default: as published)")
    lr: float = setting(0.03, "learning rate at its highest")
    optimizer: str = setting("sgd", "update rule", choices=OPTIMIZERS)
    momentum: float = setting(0.9, "momentum of SGD (Nesterov) and LARS")
    weight_decay: float = setting(1e-4, "weight decay")
    schedule: str = setting("cosine", "course of the learning rate", choices=("step", "cosine", "constant"))
    lr_decay_at: tuple[float, ...] = setting((0.6, 0.8), "step: shares of the epochs after which the rate falls")
    lr_decay_rate: float = setting(0.1, "factor of each fall; the cosine ends at lr times its cube")
    clip_grad: float = setting(0.0, "largest gradient norm, 0 for no clipping")
    ema_decay: float | None = setting(None, "measure averaged weights of this decay a step (published option: 0.999)")
    min_scale: float = setting(0.2, "smallest crop of a view, as a share of the image's area")
    precision: str = setting("auto", "number format: auto, 32, 16-mixed or bf16-mixed")
    cache_mb: int = setting(1024, "decoded images are kept in memory when they fit into this many MB; 0: never")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.label_ratio <= 1:
            raise UsageError(f"--label-ratio is {self.label_ratio:g}, but must be above 0 and at most 1")
        for name in ("steps_per_epoch", "batch_size", "mu"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name.replace('_', '-')} is {value}, but must be at least 1")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise UsageError(f"--ema-decay is {self.ema_decay:g}, but must be from 0 to below 1")
        self.fit_settings()  # refuses epochs and the like that are out of range

    def fit_settings(self, **changes: Any) -> FitSettings:
        """Say the recipe to the training loop."""
        epochs = changes.pop("epochs", self.epochs)
        return FitSettings(
            epochs=epochs,
            lr=self.lr,
            optimizer=self.optimizer,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            lr_decay_rate=self.lr_decay_rate,
            lr_decay_epochs=tuple(round(share * epochs) for share in self.lr_decay_at),
            clip_grad=self.clip_grad,
            precision=self.precision,
            device=self.device,
            seed=self.seed,
            **changes,
        )

    @property
    @abstractmethod
    def num_views(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Give how many (weak, strong) views of a labelled and of an unlabelled image the method takes."""

    @property
    def unlabelled_per_labelled(self) -> int:
        """Give ``mu``, the method's own where none is set."""
        return self.mu or 1

    @abstractmethod
    def build(self, problem: Problem, fabric: Fabric) -> SemiModel:
        """Make the method's model."""

    def on_epoch(self, problem: Problem, model: SemiModel) -> OnEpoch | None:
        """Give what is to be done after each epoch; None for nothing."""
        return None

    def details(self, problem: Problem, model: SemiModel) -> dict[str, Any]:
        """Tell what the method found beside its answers."""
        return {}

    def evaluate(
        self,
        encoder: Encoder | None,
        train: ImageSource | Embeddings,
        test: ImageSource | Embeddings,
        *,
        out: Path | None,
        quiet: bool,
        unlabelled: ImageSource | None = None,
    ) -> Report:
        """Tune and measure; ``out`` becomes a RUN (the tuned backbone) with ``head.safetensors`` beside it.

        The unlabelled images are the train images beyond the label budget, and those of ``unlabelled``.
        """
        encoder, train, test = check_inputs(self, encoder, train, test, out)
        matched = match_classes(train.labels, train.classes, test.labels, test.classes, empty=train.notes.empty_classes)
        matched.warn(told=train.notes.empty_classes)
        draw = label_budget if self.label_draw == "stratified" else plain_label_budget
        rows = draw(matched.train, self.label_ratio, seed=self.seed)
        parents = {"encoder": encoder.fingerprint, "train": train.fingerprint, "test": test.fingerprint}
        if unlabelled is not None:
            parents["unlabelled"] = unlabelled.fingerprint
        problem = Problem(
            task=self,
            encoder=encoder,
            images=train.take(rows),
            labels=matched.train[rows],
            unlabelled=unlabelled_images(train, rows, test, unlabelled),
            test=test.take(np.flatnonzero(matched.test >= 0)),
            classes=matched.classes,
            state=state_folder(self, parents, out),
            quiet=quiet,
        )
        metrics, details, network = problem.solve()
        head = save_tuned(self, network, encoder, classes=matched.classes, parents=parents, out=out)
        return self.report(metrics, {**matched.details(), **details}, {**parents, "head": head.fingerprint})


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
            return model, batches.num_unreadable

    def _batches(self, fabric: Fabric) -> SemiBatches:
        task = self.task
        of_labelled, of_unlabelled = task.num_views
        loading = Loading(
            steps_per_epoch=task.steps_per_epoch,
            seed=task.seed,
            num_workers=task.num_workers,
            cache_mb=task.cache_mb,
            quiet=self.quiet,
        )
        return SemiBatches(
            (self.images, self.labels, self._views(*of_labelled), task.batch_size),
            (self.unlabelled.images, self._views(*of_unlabelled), task.batch_size * task.unlabelled_per_labelled),
            loading,
            fabric,
        )

    def _views(self, num_weak: int, num_strong: int) -> WeakStrong:
        encoder = self.encoder
        return WeakStrong(
            image_size=encoder.image_size,
            num_weak=num_weak,
            num_strong=num_strong,
            min_scale=self.task.min_scale,
            mean=encoder.mean,
            std=encoder.std,
        )
