"""Fine-tuning: backbone and linear head trained end to end, on all labels or on a share of them."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from simcore.artifacts import Embeddings, Report
from simcore.embedding import Encoder
from simcore.errors import UsageError
from simcore.images import ImageSource
from simcore.settings import setting
from simcore.tasks._classes import match_classes
from simcore.tasks._labels import Labels, Rows, held_out_split, label_budget, plain_label_budget
from simcore.tasks._metrics import Answers, accuracies, describe
from simcore.tasks._supervised import (
    Classifier,
    LabelledViews,
    Network,
    answers_on_images,
    labelled_views,
)
from simcore.tasks._tuned import check_inputs, label_counts, save_tuned, state_folder
from simcore.tasks._tuning import TuningTask
from simcore.training import Moment, fit, make_fabric
from simcore.views import Supervised

__all__ = ["FineTune"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FineTune(TuningTask):
    """Train backbone and head end to end; with ``label_ratio`` below 1, on that share of the labels alone.

    Recipe: SGD, learning rate 0.1 falling tenfold at 60 and 80 % of the epochs, batches of 256, random resized crop
    and flip (Kim et al. 2023, supervised part of its code; label ratios of 0.1, 0.2 and 0.5 as in its Table 7b).
    Of each class the rounded share keeps its label, but at least one image; ``label_draw="plain"`` draws regardless
    of class as the published code does. The last epoch is measured; ``choose_on`` takes the best epoch instead, on a
    split of the labelled images or, as published, on the test set, which flatters the figure.
    """

    label_ratio: float = setting(1.0, "share of the train images that keep their label")
    label_draw: str = setting("stratified", "how those are drawn", choices=("stratified", "plain"))
    lr: float = setting(0.1, "learning rate at its highest")
    schedule: str = setting("step", "course of the learning rate", choices=("step", "cosine", "constant"))
    choose_on: str = setting("last", "which epoch is measured", choices=("last", "split", "test"))
    choose_by: str = setting("top1", "metric that chooses", choices=("top1", "mean_per_class"))
    split_share: float = setting(0.2, "with a split: share of each class held out to choose on")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.label_ratio <= 1:
            raise UsageError(f"--label-ratio is {self.label_ratio:g}, but must be above 0 and at most 1")
        if not 0 < self.split_share < 1:
            raise UsageError(f"--split-share is {self.split_share:g}, but must lie between 0 and 1")

    def evaluate(
        self,
        encoder: Encoder | None,
        train: ImageSource | Embeddings,
        test: ImageSource | Embeddings,
        *,
        out: Path | None,
        quiet: bool,
    ) -> Report:
        """Fine-tune and measure; ``out`` becomes a RUN (the tuned backbone) with ``head.safetensors`` beside it."""
        encoder, train, test = check_inputs(self, encoder, train, test, out)
        matched = match_classes(train.labels, train.classes, test.labels, test.classes, empty=train.notes.empty_classes)
        matched.warn(told=train.notes.empty_classes)
        rows = self.labelled_rows(matched.train)
        tuning = _Tuning(
            task=self,
            encoder=encoder,
            images=train.take(rows),
            labels=matched.train[rows],
            test=test.take(np.flatnonzero(matched.test >= 0)),
            classes=matched.classes,
            parents={"encoder": encoder.fingerprint, "train": train.fingerprint, "test": test.fingerprint},
            quiet=quiet,
        )
        metrics, details, network = tuning.run(out)
        head = save_tuned(self, network, encoder, classes=matched.classes, parents=tuning.parents, out=out)
        return self.report(metrics, {**matched.details(), **details}, {**tuning.parents, "head": head.fingerprint})

    def labelled_rows(self, labels: Labels) -> Rows:
        """Choose the train rows that keep their label; ``labels`` are -1 where there is none, int64 [n]."""
        draw = label_budget if self.label_draw == "stratified" else plain_label_budget
        return draw(labels, self.label_ratio, seed=self.seed)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Tuning:
    """One run of fine-tuning: labelled images in, a network and its figures out."""

    task: FineTune
    encoder: Encoder
    images: ImageSource
    labels: Labels
    test: ImageSource
    classes: tuple[str, ...]
    parents: Mapping[str, str]
    quiet: bool

    def run(self, out: Path | None) -> tuple[dict[str, float], dict[str, Any], Network]:
        """Train, choose the epoch and measure: metrics, details and the network."""
        counts = label_counts(self.labels, self.classes)
        model, num_unreadable = self._train(state_folder(self.task, self.parents, out))
        answers, _, num_skipped = self._answers(model.chosen, self.test)
        details = {
            **counts,
            "num_train_skipped": num_unreadable,
            "num_test_skipped": num_skipped,
            "chosen_on": self.task.choose_on,
            "epoch": self.task.epochs if model.kept is None else int(model.kept_score[2]),
            **describe(answers, self.classes, seed=self.task.seed),
        }
        return accuracies(answers), details, model.chosen

    def _train(self, state: Path | None) -> tuple[Classifier, int]:
        """Run the loop; give the model and the number of unreadable images."""
        kept, watched = self._split()
        model = Classifier(
            copy.deepcopy(self.encoder.backbone),
            dim=self.encoder.dim,
            num_classes=len(self.classes),
            seed=self.task.seed,
            keep_best=watched is not None,
        )
        settings = self.task.fit_settings()
        fabric = make_fabric(settings.device, settings.precision)
        if fabric.device.type == "cuda":
            model.to(memory_format=torch.channels_last)  # quicker there
        on_epoch = None if watched is None else functools.partial(self._measure, model, watched)
        with contextlib.closing(self._batches(kept, fabric)) as batches:
            fit(
                model,
                batches,
                settings,
                fabric=fabric,
                out=state,
                resume=True,
                label="finetune",
                quiet=self.quiet,
                on_epoch=on_epoch,
            )
            return model, batches.num_unreadable

    def _split(self) -> tuple[Rows, ImageSource | None]:
        """Choose the rows to train on, and the images to choose the epoch on (None for the last epoch)."""
        everything = np.arange(len(self.labels))
        if self.task.choose_on == "last":
            return everything, None
        if self.task.choose_on == "test":
            return everything, self.test
        kept, held = held_out_split(self.labels, self.task.split_share, seed=self.task.seed)
        if not len(held):
            raise UsageError("every class has a single labelled image: nothing to choose on; use --choose-on last")
        return kept, self.images.take(held)

    def _batches(self, rows: Rows, fabric: Fabric) -> LabelledViews:
        task, encoder = self.task, self.encoder
        return labelled_views(
            self.images.take(rows),
            self.labels[rows],
            Supervised(image_size=encoder.image_size, min_scale=task.min_scale, mean=encoder.mean, std=encoder.std),
            fabric,
            seed=task.seed,
            batch_size=task.batch_size,
            num_workers=task.num_workers,
            cache_mb=task.cache_mb,
            quiet=self.quiet,
        )

    def _measure(self, model: Classifier, watched: ImageSource, moment: Moment) -> dict[str, float]:
        """After an epoch: keep the network if it is the best so far, and give the figures for the log."""
        answers, loss, _ = self._answers(model.network, watched, quiet=True)
        accuracy = accuracies(answers)[self.task.choose_by]
        model.keep_if_better(accuracy, loss, moment.epoch + 1)
        return {f"{self.task.choose_on}_{self.task.choose_by}": accuracy, f"{self.task.choose_on}_loss": loss}

    def _answers(self, network: Network, images: ImageSource, *, quiet: bool = False) -> tuple[Answers, float, int]:
        return answers_on_images(
            network,
            self.encoder,
            images,
            self.classes,
            num_workers=self.task.num_workers,
            quiet=quiet or self.quiet,
        )
