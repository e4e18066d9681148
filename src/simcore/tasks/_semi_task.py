"""What the tasks on a few labels and many unlabelled images share: their settings and what they evaluate."""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from lightning_fabric import Fabric

from simcore.artifacts import Embeddings, Report
from simcore.embedding import Encoder
from simcore.errors import UsageError
from simcore.images import ImageSource
from simcore.settings import setting
from simcore.tasks._classes import match_classes
from simcore.tasks._labels import label_budget, plain_label_budget
from simcore.tasks._semi_models import SemiModel
from simcore.tasks._semi_problem import Problem
from simcore.tasks._tuned import check_inputs, save_tuned, state_folder
from simcore.tasks._tuning import ClippedTuning
from simcore.tasks._unlabelled import unlabelled_images
from simcore.training.loop import OnEpoch


@dataclasses.dataclass(frozen=True, kw_only=True)
class SemiTask(ClippedTuning):
    """Tune backbone and head on labelled and unlabelled images, side by side in every step.

    A subclass names its methods, how many views they take, and builds their models.
    """

    takes_unlabelled: ClassVar[bool] = True
    min_batch_size: ClassVar[int] = 1

    label_ratio: float = setting(0.1, "share of the train images that keep their label; the rest is unlabelled")
    label_draw: str = setting("stratified", "how those are drawn", choices=("stratified", "plain"))
    epochs: int = setting(32, "stretches of --steps-per-epoch steps")
    steps_per_epoch: int = setting(512, "steps of an epoch")
    batch_size: int = setting(256, "labelled images a step (all, where there are fewer)")
    mu: int | None = setting(None, "unlabelled images for each labelled one (default: 1)")
    ema_decay: float | None = setting(None, "measure averaged weights of this decay a step (published option: 0.999)")
    min_scale: float = setting(0.2, "smallest crop of a view, as a share of the image's area")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.label_ratio <= 1:
            raise UsageError(f"--label-ratio is {self.label_ratio:g}, but must be above 0 and at most 1")
        self.check_range(1, math.inf, "steps_per_epoch", "mu")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise UsageError(f"--ema-decay is {self.ema_decay:g}, but must be from 0 to below 1")

    def check_range(self, low: float, high: float, *names: str) -> None:
        """Refuse settings that lie outside of ``low`` to ``high``; None is no value."""
        for name in names:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                bounds = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
                raise UsageError(f"--{name.replace('_', '-')} is {value:g}, but must be {bounds}")

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
