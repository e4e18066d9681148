"""Linear probe: a linear classifier on features of a frozen backbone."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simcore.artifacts import Embeddings, Report
from simcore.errors import SimcoreError, SimcoreWarning, UsageError
from simcore.settings import setting
from simcore.tasks._features import FeatureSets, LabelledFeatures, embedder_for, gather
from simcore.tasks._head import FILE_NAME, Head
from simcore.tasks._heads import FeatureBatches, Heads, Score
from simcore.tasks._labels import held_out_split
from simcore.tasks._metrics import Answers, accuracies, describe
from simcore.tasks._nearest import normalised
from simcore.tasks._task import Task
from simcore.training import FitSettings, fit

if TYPE_CHECKING:
    from torch import Tensor

    from simcore.embedding import Encoder
    from simcore.images import ImageSource

__all__ = ["LinearProbe"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearProbe(Task):
    """Train linear classifiers on frozen features, one a learning rate, and measure the one chosen.

    The backbone stays in eval mode and its features are computed once. Optimizer, step decay, batch and length are
    the published ones (Kim et al. 2023, run_sup of its code), where the only learning rate is 10. Learning rate and
    epoch are chosen on a part of the training set; ``choose_on="test"`` chooses, as published, the epoch that is
    best on the test set itself, which flatters the figure.
    """

    lr: tuple[float, ...] = setting((0.1, 0.3, 1.0, 3.0, 10.0, 30.0), "learning rates, tried side by side")
    epochs: int = setting(100, "passes over the training set")
    batch_size: int = setting(256, "rows a step")
    weight_decay: float = setting(0.0, "weight decay")
    momentum: float = setting(0.9, "momentum of SGD (Nesterov)")
    lr_decay_at: tuple[float, ...] = setting((0.6, 0.8), "shares of the epochs after which the learning rate falls")
    lr_decay_rate: float = setting(0.1, "factor of each fall")
    normalise: bool = setting(False, "scale feature rows to length 1 first")
    choose_on: str = setting("split", "what learning rate and epoch are chosen on", choices=("split", "test"))
    choose_by: str = setting("top1", "metric that chooses", choices=("top1", "mean_per_class"))
    split_share: float = setting(0.2, "share of each class held out of training to choose on")
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
        """Give the published recipe: one learning rate of 10, best epoch by accuracy on the test set."""
        return cls(lr=(10.0,), choose_on="test")

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
        head, report = self.measure(sets.on(self.device), quiet=quiet)
        if out is not None:
            head.save(out / FILE_NAME)
        return report

    def measure(self, sets: FeatureSets, *, quiet: bool = False) -> tuple[Head, Report]:
        """Train and measure on features that are at hand."""
        if self.normalise:
            sets = sets.map(normalised)
        score, weight, bias, scores = self._chosen(sets, quiet)
        head = Head(weight=weight, bias=bias, classes=sets.classes, encoder=sets.encoder, normalise=self.normalise)
        answers = Answers.from_scores(head.logits(sets.test.features), sets.test.labels)
        learnt = Answers.from_scores(head.logits(sets.train.features), sets.train.labels)
        details = {
            **sets.details,
            "chosen_on": self.choose_on,
            "lr": score.lr,
            "epoch": score.epoch,
            "train_top1": accuracies(learnt)["top1"],
            "tried": _best_of_each(scores),
            **describe(answers, sets.classes, seed=self.seed),
        }
        return head, self.report(accuracies(answers), details, {**sets.parents, "head": head.fingerprint})

    def _chosen(self, sets: FeatureSets, quiet: bool) -> tuple[Score, Tensor, Tensor, list[Score]]:
        """Choose learning rate and epoch; give the choice, its weights, and every score on the way."""
        if self.choose_on == "test":
            return self._train(sets, sets.train, self.lr, watched=sets.test, quiet=quiet)
        kept, held = held_out_split(sets.train.labels.cpu().numpy(), self.split_share, seed=self.seed)
        if not len(held):
            return self._without_split(sets, quiet)
        score, weight, bias, scores = self._train(
            sets, sets.train.take(kept), self.lr, watched=sets.train.take(held), quiet=quiet
        )
        if self.retrain:
            _, weight, bias, _ = self._train(sets, sets.train, (score.lr,), keep_epoch=score.epoch, quiet=quiet)
        return score, weight, bias, scores

    def _without_split(self, sets: FeatureSets, quiet: bool) -> tuple[Score, Tensor, Tensor, list[Score]]:
        """With one image a class there is nothing to hold out: the training set itself has to choose."""
        warnings.warn(
            "every class has a single train image: learning rate and epoch are chosen on the training set itself",
            SimcoreWarning,
            stacklevel=4,
        )
        return self._train(sets, sets.train, self.lr, watched=sets.train, quiet=quiet)

    def _train(
        self,
        sets: FeatureSets,
        data: LabelledFeatures,
        lrs: Sequence[float],
        *,
        quiet: bool,
        watched: LabelledFeatures | None = None,
        keep_epoch: int | None = None,
    ) -> tuple[Score, Tensor, Tensor, list[Score]]:
        heads = Heads(
            dim=data.dim,
            num_classes=len(sets.classes),
            lrs=lrs,
            seed=self.seed,
            watched=watched,
            metric=self.choose_by,
            keep_epoch=keep_epoch,
        )
        batches = FeatureBatches(data=data, batch_size=self.batch_size, seed=self.seed)
        fit(heads, batches, self.fit_settings(), label="linear", quiet=quiet)
        if heads.best is None:
            raise SimcoreError(f"no head could be trained at learning rates {', '.join(map(str, lrs))}")
        return (*heads.best, heads.scores)


def _best_of_each(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """Give each learning rate's best epoch and what it reached there."""
    best: dict[float, Score] = {}
    for score in scores:
        if score.lr not in best or score.order > best[score.lr].order:
            best[score.lr] = score
    return [{"lr": s.lr, "epoch": s.epoch, "accuracy": s.accuracy} for s in best.values()]
