"""The settings that tasks share which tune a backbone, and how the loop is told of them."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from simcore.embedding import Encoder
from simcore.errors import UsageError
from simcore.settings import setting
from simcore.tasks._loading import Loading
from simcore.tasks._task import Task
from simcore.training import FitSettings
from simcore.training.settings import OPTIMIZERS, PRECISIONS
from simcore.views import WeakStrong


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuningTask(Task):
    """Tune backbone and head; a subclass says on which images, and may have other defaults."""

    epochs: int = setting(100, "passes over the labelled images")
    lr: float = setting(0.03, "learning rate at its highest")
    batch_size: int = setting(256, "images a step")
    optimizer: str = setting("sgd", "update rule", choices=OPTIMIZERS)
    momentum: float = setting(0.9, "momentum of SGD (Nesterov) and LARS")
    weight_decay: float = setting(1e-4, "weight decay")
    schedule: str = setting("cosine", "course of the learning rate", choices=("step", "cosine", "constant"))
    lr_decay_at: tuple[float, ...] = setting((0.6, 0.8), "step: shares of the epochs after which the rate falls")
    lr_decay_rate: float = setting(0.1, "factor of each fall; the cosine ends at lr times its cube")
    min_scale: float = setting(0.2, "smallest crop of a training view, as a share of the image's area")
    precision: str = setting("auto", "number format; auto: bf16 or fp16 AMP on CUDA, else 32", choices=PRECISIONS)
    cache_mb: int = setting(1024, "decoded images are kept in memory when they fit into this many MB; 0: never")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.fit_settings()  # refuses epochs and the like that are out of range

    def fit_settings(self, **changes: Any) -> FitSettings:
        """Say the recipe to the training loop, with ``changes`` to what the settings say."""
        epochs = changes.get("epochs", self.epochs)
        recipe = {
            "epochs": epochs,
            "lr": self.lr,
            "optimizer": self.optimizer,
            "momentum": self.momentum,
            "weight_decay": self.weight_decay,
            "schedule": self.schedule,
            "lr_decay_rate": self.lr_decay_rate,
            "lr_decay_epochs": tuple(round(share * epochs) for share in self.lr_decay_at),
            "precision": self.precision,
            "device": self.device,
            "seed": self.seed,
        }
        return FitSettings(**{**recipe, **changes})

    def loading(self, *, quiet: bool) -> Loading:
        """Say how images are loaded."""
        return Loading(num_workers=self.num_workers, cache_mb=self.cache_mb, quiet=quiet)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClippedTuning(TuningTask):
    """Tuning whose gradients may be clipped, on batches of a least size."""

    min_batch_size: ClassVar[int] = 2  # batch normalisation

    clip_grad: float = setting(0.0, "largest gradient norm, 0 for no clipping")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size < self.min_batch_size:
            raise UsageError(f"--batch-size is {self.batch_size}, but must be at least {self.min_batch_size}")

    def fit_settings(self, **changes: Any) -> FitSettings:
        """Say the recipe to the training loop, with ``changes`` to what the settings say."""
        return super().fit_settings(**{"clip_grad": self.clip_grad, **changes})

    def weak_strong(self, encoder: Encoder, num_weak: int, num_strong: int) -> WeakStrong:
        """Make the maker of weak and strong views of an image for this encoder's input."""
        return WeakStrong(
            image_size=encoder.image_size,
            num_weak=num_weak,
            num_strong=num_strong,
            min_scale=self.min_scale,
            mean=encoder.mean,
            std=encoder.std,
        )
