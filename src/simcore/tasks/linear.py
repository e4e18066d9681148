"""Linear probe: a linear classifier on features of a frozen backbone."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simcore.artifacts import Embeddings, Report
from simcore.errors import SimcoreError, SimcoreWarning, UsageError
from simcore.settings import setting
from simcore.tasks._features import FeatureSets, LabelledFeatures, embedder_for, gather
from simcore.tasks._head import FILE_NAME, Head
from simcore.tasks._heads import FeatureBatches, Heads, Kept, Score
from simcore.tasks._labels import Rows, held_out_split
from simcore.tasks._metrics import Answers, accuracies, describe
from simcore.tasks._scaling import SCALINGS, Scaling
from simcore.tasks._task import Task
from simcore.training import FitSettings, fit, make_fabric

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from simcore.embedding import Encoder
    from simcore.images import ImageSource
    from simcore.tasks._supervised import FrozenFeatures

__all__ = ["LinearProbe"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearProbe(Task):
    """Train linear classifiers on frozen features, one a learning rate, and measure the one chosen.

    The backbone stays in eval mode and its features are computed once. Optimizer, step decay, batch and length are
    the published ones (Kim et al. 2023, run_sup of its code), where the only learning rate is 10. Learning rate and
    epoch are chosen on a part of the training set; ``choose_on="test"`` chooses, as published, the epoch that is
    best on the test set itself, which flatters the figure.
    """

    lr: tuple[float, ...] = setting((0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0), "learning rates, tried side by side")
    epochs: int = setting(100, "passes over the training set")
    batch_size: int = setting(256, "rows a step")
    weight_decay: float = setting(0.0, "weight decay")
    momentum: float = setting(0.9, "momentum of SGD (Nesterov)")
    lr_decay_at: tuple[float, ...] = setting((0.6, 0.8), "shares of the epochs after which the learning rate falls")
    lr_decay_rate: float = setting(0.1, "factor of each fall")
    scaling: str = setting("none", "features as they are, rows of length 1, or variance 1", choices=SCALINGS)
    choose_on: str = setting("split", "what learning rate and epoch are chosen on", choices=("split", "test"))
    choose_by: str = setting("top1", "metric that chooses", choices=("top1", "mean_per_class"))
    split_share: float = setting(0.2, "share of each class held out of training to choose on")
    augment: bool = setting(False, "train on features of fresh random crops in every epoch, as published")
    cache_mb: int = setting(1024, "to augment: decoded images are kept in memory when they fit into this many MB")
    retrain: bool = setting(True, "with a split: train again on the whole training set as chosen")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.lr or not min(self.lr) > 0:
            raise UsageError(f"--lr is {self.lr}, but must be one or more numbers above 0")
        if not 0 < self.split_share < 1:
            raise UsageError(f"--split-share is {self.split_share:g}, but must lie between 0 and 1")
        if self.batch_size < 1:
            raise UsageError(f"--batch-size is {self.batch_size}, but must be at least 1")
        self.fit_settings()  # refuses epochs and the like that are out of range

    @classmethod
    def published(cls) -> LinearProbe:
        """Give the published recipe: one learning rate of 10, random crops, best epoch by accuracy on the test set.

        The published code lets batch statistics of the backbone drift meanwhile; here they stay as they are.
        """
        return cls(lr=(10.0,), augment=True, choose_on="test")

    def fit_settings(self) -> FitSettings:
        """Say the recipe to the training loop; each head scales its learning rate of 1."""
        return FitSettings(
            epochs=self.epochs,
            lr=1.0,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            schedule="step",
            lr_decay_rate=self.lr_decay_rate,
            lr_decay_epochs=tuple(round(share * self.epochs) for share in self.lr_decay_at),
            precision="32",
            device=self.device,
            seed=self.seed,
        )

    @property
    def on_features(self) -> bool:
        """It works on frozen features alone, unless it augments."""
        return not self.augment

    def evaluate(
        self,
        encoder: Encoder | None,
        train: ImageSource | Embeddings,
        test: ImageSource | Embeddings,
        *,
        out: Path | None,
        quiet: bool,
    ) -> Report:
        """Train and measure; ``head.safetensors`` goes to ``out``."""
        embedder = embedder_for(encoder, self, quiet=quiet)
        sets = gather(embedder, train, test, cache=None if out is None else out / "features")
        head, report = self.measure(sets.on(self.device), encoder=encoder, quiet=quiet)
        if out is not None:
            head.save(out / FILE_NAME)
        return report

    def measure(self, sets: FeatureSets, *, encoder: Encoder | None = None, quiet: bool = False) -> tuple[Head, Report]:
        """Train and measure on features that are at hand; ``encoder`` is needed to augment."""
        if self.augment and (encoder is None or sets.images is None):
            raise UsageError("--augment needs an encoder and a train source of images, not a store")
        scaling = Scaling.of(self.scaling, sets.train.features)
        probe = _Probe(self, sets.map(scaling), scaling, encoder, quiet)
        kept = probe.choose()
        weight, bias = scaling.fold(kept.weight, kept.bias)
        head = Head(
            weight=weight, bias=bias, classes=sets.classes, encoder=sets.encoder, unit_rows=self.scaling == "unit"
        )
        answers = Answers.from_scores(head.logits(sets.test.features), sets.test.labels)
        learnt = Answers.from_scores(head.logits(sets.train.features), sets.train.labels)
        details = {
            **sets.details,
            "chosen_on": probe.chosen_on,
            "lr": kept.score.lr,
            "epoch": kept.score.epoch,
            "train_top1": accuracies(learnt)["top1"],
            "tried": _best_of_each(probe.scores),
            **describe(answers, sets.classes, seed=self.seed),
        }
        return head, self.report(accuracies(answers), details, {**sets.parents, "head": head.fingerprint})


class _Probe:
    """One run of a linear probe on scaled features: what it works on, and every score on the way to its choice."""

    def __init__(
        self, task: LinearProbe, sets: FeatureSets, scaling: Scaling, encoder: Encoder | None, quiet: bool
    ) -> None:
        self.task, self.sets, self.scaling, self.encoder, self.quiet = task, sets, scaling, encoder, quiet
        self.chosen_on = task.choose_on
        self.scores: list[Score] = []

    def choose(self) -> Kept:
        """Choose learning rate and epoch, and give the head to use."""
        task, train = self.task, self.sets.train
        everything = np.arange(len(train))
        if task.choose_on == "test":
            return self._try_all(everything, self.sets.test)
        kept, held = held_out_split(train.labels.cpu().numpy(), task.split_share, seed=task.seed)
        if not len(held):
            return self._without_split(everything)
        best = self._try_all(kept, train.take(held))
        if not task.retrain:
            return best
        again = self._heads((best.score.lr,), keep_epoch=best.score.epoch)
        retrained = self._fit(again, everything)
        return dataclasses.replace(retrained, score=best.score)

    def _without_split(self, rows: Rows) -> Kept:
        """With one image a class there is nothing to hold out: the training set itself has to choose."""
        self.chosen_on = "train"
        warnings.warn(
            "every class has a single train image: learning rate and epoch are chosen on the training set itself",
            SimcoreWarning,
            stacklevel=5,
        )
        return self._try_all(rows, self.sets.train)

    def _try_all(self, rows: Rows, watched: LabelledFeatures) -> Kept:
        heads = self._heads(self.task.lr, watched=watched)
        best = self._fit(heads, rows)
        self.scores = heads.scores
        return best

    def _heads(
        self, lrs: Sequence[float], *, watched: LabelledFeatures | None = None, keep_epoch: int | None = None
    ) -> Heads:
        return Heads(
            dim=self.sets.train.dim,
            num_classes=len(self.sets.classes),
            lrs=lrs,
            seed=self.task.seed,
            watched=watched,
            metric=self.task.choose_by,
            keep_epoch=keep_epoch,
        )

    def _fit(self, heads: Heads, rows: Rows) -> Kept:
        settings = self.task.fit_settings()
        fabric = make_fabric(settings.device, settings.precision)
        with contextlib.closing(self._batches(rows, fabric)) as batches:
            fit(heads, batches, settings, fabric=fabric, label="linear", quiet=self.quiet)
        if heads.best is None:
            raise SimcoreError(f"the head diverged at every learning rate ({', '.join(map(str, heads.lrs))})")
        return heads.best

    def _batches(self, rows: Rows, fabric: Fabric) -> FeatureBatches | FrozenFeatures:
        task, data = self.task, self.sets.train.take(rows)
        if not task.augment:
            return FeatureBatches(data=data, batch_size=task.batch_size, seed=task.seed)
        assert self.encoder is not None  # measure() has seen to both
        assert self.sets.images is not None
        from simcore.tasks._supervised import FrozenFeatures, labelled_views
        from simcore.views import Supervised

        encoder = self.encoder.to(fabric.device)
        views = Supervised(image_size=encoder.image_size, mean=encoder.mean, std=encoder.std)
        images = self.sets.images.take(rows)
        batches = labelled_views(
            images,
            data.labels.cpu().numpy(),
            views,
            fabric,
            seed=task.seed,
            batch_size=task.batch_size,
            num_workers=task.num_workers,
            cache_mb=task.cache_mb,
            quiet=self.quiet,
            min_batch=1,
        )
        return FrozenFeatures(encoder=encoder, views=batches, scaling=self.scaling)


def _best_of_each(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """Give each learning rate's best epoch and what it reached there."""
    best: dict[float, Score] = {}
    for score in scores:
        if score.lr not in best or score.order > best[score.lr].order:
            best[score.lr] = score
    return [{"lr": s.lr, "epoch": s.epoch, "accuracy": s.accuracy} for s in best.values()]
