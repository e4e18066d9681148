"""What active learning trains anew in every round: the whole network, or a head on frozen features."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from simcore.artifacts import Embeddings
from simcore.artifacts.files import fingerprint
from simcore.embedding import Encoder
from simcore.errors import SimcoreError
from simcore.images import ImageSource
from simcore.tasks._features import LabelledFeatures, described, embedded_rows
from simcore.tasks._head import FILE_NAME, Head
from simcore.tasks._heads import FeatureBatches, Heads
from simcore.tasks._labels import Labels, Rows
from simcore.tasks._metrics import Answers
from simcore.tasks._supervised import (
    Classifier,
    Network,
    answers_on_images,
    features_on_images,
    labelled_views,
    logits_of,
)
from simcore.tasks._tuned import save_tuned
from simcore.training import fit, make_fabric
from simcore.training.checkpoint import load_state
from simcore.views import Supervised

if TYPE_CHECKING:
    from simcore.tasks.active import ActiveLearning


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What the trained network makes of some images.

    Attributes:
        rows: which of the images could be read, int64 [m], ascending.
        features: what the head sees, float32 [m, dim].
        probabilities: float32 [m, num_classes].
    """

    rows: Rows
    features: Tensor
    probabilities: Tensor

    def at(self, rows: Rows) -> Seen:
        """Keep those of ``rows`` that could be read."""
        kept = np.flatnonzero(np.isin(self.rows, rows))
        return Seen(rows=self.rows[kept], features=self.features[kept], probabilities=self.probabilities[kept])


@dataclasses.dataclass(kw_only=True, eq=False)
class Learner(ABC):
    """Trains on the labels bought so far, and looks at all images with what it has learnt.

    Attributes:
        images, labels: all train images and the number of each one's class; only rows bought are trained on.
        test: test images of known classes.
    """

    task: ActiveLearning
    encoder: Encoder
    images: ImageSource
    labels: Labels
    test: ImageSource
    classes: tuple[str, ...]
    quiet: bool

    @abstractmethod
    def train(self, number: int, rows: Rows, state: Path | None) -> None:
        """Train round ``number`` on ``rows``; the loop's state goes to ``state``."""

    @abstractmethod
    def restore(self, number: int, state: Path) -> None:
        """Take over what a round before ended with."""

    @abstractmethod
    def answers(self) -> tuple[Answers, int]:
        """Classify the test images; also tell how many could not be read."""

    @abstractmethod
    def look(self) -> Seen:
        """Look at all train images."""

    @abstractmethod
    def save(self, parents: Mapping[str, str], out: Path | None) -> Head:
        """Leave what was trained in ``out``."""

    def seed(self, number: int) -> int:
        """Give the seed of a round."""
        return int(fingerprint("round", self.task.seed, number), 16) % 2**31


@dataclasses.dataclass(kw_only=True, eq=False)
class Tuner(Learner):
    """Tunes backbone and head; a round begins with the backbone of the round before, and a fresh head."""

    def __post_init__(self) -> None:
        self.backbone: nn.Module = copy.deepcopy(self.encoder.backbone)
        self.network: Network | None = None

    def train(self, number: int, rows: Rows, state: Path | None) -> None:
        """Fit a classifier to the rows."""
        model = self._model(number)
        settings = self.task.fit_settings(seed=self.seed(number))
        fabric = make_fabric(settings.device, settings.precision)
        if fabric.device.type == "cuda":
            model.to(memory_format=torch.channels_last)  # quicker there
        encoder = self.encoder
        views = Supervised(
            image_size=encoder.image_size, min_scale=self.task.min_scale, mean=encoder.mean, std=encoder.std
        )
        batches = labelled_views(
            self.images.take(rows),
            self.labels[rows],
            views,
            fabric,
            seed=settings.seed,
            batch_size=self.task.batch_size,
            num_workers=self.task.num_workers,
            cache_mb=self.task.cache_mb,
            quiet=self.quiet,
        )
        label = f"active round {number + 1}/{self.task.rounds}"
        with contextlib.closing(batches):
            fit(model, batches, settings, fabric=fabric, out=state, resume=True, label=label, quiet=self.quiet)
        self._keep(model)

    def restore(self, number: int, state: Path) -> None:
        """Load the weights that the round ended with."""
        model = self._model(number)
        model.load_state_dict(load_state(state)["model"])
        self._keep(model)

    def answers(self) -> tuple[Answers, int]:
        """Classify the test images."""
        answers, _, num_skipped = answers_on_images(
            self._trained, self.encoder, self.test, self.classes, num_workers=self.task.num_workers, quiet=self.quiet
        )
        return answers, num_skipped

    def look(self) -> Seen:
        """Look at the middle of every train image."""
        network = self._trained
        made = features_on_images(
            network, self.encoder, self.images, num_workers=self.task.num_workers, quiet=self.quiet
        )
        everything = np.arange(len(made))
        features = torch.from_numpy(made.features.take(everything))
        probabilities = logits_of(network, made, everything).softmax(1)
        return Seen(rows=embedded_rows(self.images, made), features=features, probabilities=probabilities)

    def save(self, parents: Mapping[str, str], out: Path | None) -> Head:
        """Leave the last round's network as a RUN, with the head beside it."""
        return save_tuned(self.task, self._trained, self.encoder, classes=self.classes, parents=parents, out=out)

    @property
    def _trained(self) -> Network:
        assert self.network is not None  # a round has been trained or restored
        return self.network

    def _model(self, number: int) -> Classifier:
        start = self.backbone if self.task.go_on else self.encoder.backbone
        return Classifier(
            copy.deepcopy(start).requires_grad_(True),
            dim=self.encoder.dim,
            num_classes=len(self.classes),
            seed=self.seed(number),
            keep_best=False,
        )

    def _keep(self, model: Classifier) -> None:
        self.network, self.backbone = model.network, model.network.backbone


@dataclasses.dataclass(kw_only=True, eq=False)
class Prober(Learner):
    """Trains a linear head on features of the frozen encoder, which are computed once."""

    train_features: Embeddings
    test_features: Embeddings
    test_labels: Labels

    def __post_init__(self) -> None:
        self.rows = embedded_rows(self.images, self.train_features)
        self.features = torch.from_numpy(self.train_features.features.take(np.arange(len(self.train_features))))
        self.head: Head | None = None

    def train(self, number: int, rows: Rows, state: Path | None) -> None:
        """Fit a head to the rows that could be read; it takes too little time to keep a state."""
        kept = np.flatnonzero(np.isin(self.rows, rows))
        if not len(kept):
            raise SimcoreError("none of the labelled images can be read")
        data = LabelledFeatures(features=self.features[kept], labels=torch.from_numpy(self.labels[self.rows[kept]]))
        settings = self.task.fit_settings(seed=self.seed(number), lr=1.0, precision="32")
        fabric = make_fabric(settings.device, settings.precision)
        data = data.to(fabric.device)
        heads = Heads(
            dim=self.encoder.dim,
            num_classes=len(self.classes),
            lrs=(self.task.lr,),
            seed=settings.seed,
            keep_epoch=self.task.epochs,
        )
        batches = FeatureBatches(data=data, batch_size=self.task.batch_size, seed=settings.seed)
        fit(heads, batches, settings, fabric=fabric, label=f"active round {number + 1}", quiet=self.quiet)
        assert heads.best is not None
        self.head = Head(
            weight=heads.best.weight.cpu(),
            bias=heads.best.bias.cpu(),
            classes=self.classes,
            encoder=described(self.encoder),
        )

    def restore(self, number: int, state: Path) -> None:
        """Do nothing: a round does not depend on the one before."""

    def answers(self) -> tuple[Answers, int]:
        """Classify the test images."""
        features = torch.from_numpy(self.test_features.features.take(np.flatnonzero(self.test_labels >= 0)))
        targets = torch.from_numpy(self.test_labels[self.test_labels >= 0])
        return Answers.from_scores(self._trained.logits(features), targets), self.test_features.num_skipped

    def look(self) -> Seen:
        """Classify the features of all train images."""
        probabilities = self._trained.logits(self.features).softmax(1)
        return Seen(rows=self.rows, features=self.features, probabilities=probabilities)

    def save(self, parents: Mapping[str, str], out: Path | None) -> Head:
        """Leave the last round's head, which names its encoder."""
        if out is not None:
            self._trained.save(out / FILE_NAME)
        return self._trained

    @property
    def _trained(self) -> Head:
        assert self.head is not None  # a round has been trained
        return self.head
