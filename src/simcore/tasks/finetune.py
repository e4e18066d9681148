"""Fine-tuning: backbone and linear head trained end to end, on all labels or on a share of them."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simcore.artifacts import Checkpoint, Embeddings, Report
from simcore.artifacts.files import fingerprint
from simcore.backbones import export_weights
from simcore.embedding import Encoder
from simcore.errors import SimcoreWarning, UsageError
from simcore.images import ImageSource
from simcore.registry import name_of
from simcore.settings import as_dict, setting
from simcore.tasks._classes import match_classes
from simcore.tasks._head import FILE_NAME, Head
from simcore.tasks._labels import held_out_split, label_budget, plain_label_budget
from simcore.tasks._metrics import Answers, accuracies, describe
from simcore.tasks._predict import BESIDE
from simcore.tasks._supervised import (
    Classifier,
    CropAndFlip,
    Network,
    answers_on_images,
    encoder_around,
    labelled_views,
)
from simcore.tasks._task import Task
from simcore.training import FitSettings, Moment, fit, make_fabric
from simcore.training.settings import OPTIMIZERS

__all__ = ["FineTune"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FineTune(Task):
    """Train backbone and head end to end; with ``label_ratio`` below 1, on that share of the labels alone.

    Recipe: SGD, learning rate 0.1 falling tenfold at 60 and 80 % of the epochs, batches of 256, random resized crop
    and flip (Kim et al. 2023, supervised part of its code; label ratios of 0.1, 0.2 and 0.5 as in its Table 7b).
    Of each class the rounded share keeps its label, but at least one image; ``label_draw="plain"`` draws regardless
    of class as the published code does. The last epoch is measured; ``choose_on`` takes the best epoch instead, on a
    split of the labelled images or, as published, on the test set, which flatters the figure.
    """

    label_ratio: float = setting(1.0, "share of the train images that keep their label")
    label_draw: str = setting("stratified", "how those are drawn", choices=("stratified", "plain"))
    epochs: int = setting(100, "passes over the labelled images")
    lr: float = setting(0.1, "learning rate at its highest")
    batch_size: int = setting(256, "images a step")
    optimizer: str = setting("sgd", "update rule", choices=OPTIMIZERS)
    momentum: float = setting(0.9, "momentum of SGD (Nesterov) and LARS")
    weight_decay: float = setting(1e-4, "weight decay")
    schedule: str = setting("step", "course of the learning rate", choices=("step", "cosine", "constant"))
    lr_decay_at: tuple[float, ...] = setting((0.6, 0.8), "step: shares of the epochs after which the rate falls")
    lr_decay_rate: float = setting(0.1, "factor of each fall; the cosine ends at lr times its cube")
    min_scale: float = setting(0.2, "smallest crop of a training view, as a share of the image's area")
    choose_on: str = setting("last", "which epoch is measured", choices=("last", "split", "test"))
    choose_by: str = setting("top1", "metric that chooses", choices=("top1", "mean_per_class"))
    split_share: float = setting(0.2, "with a split: share of each class held out to choose on")
    precision: str = setting("auto", "number format: auto, 32, 16-mixed or bf16-mixed")
    cache_mb: int = setting(1024, "decoded images are kept in memory when they fit into this many MB; 0: never")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.label_ratio <= 1:
            raise UsageError(f"--label-ratio is {self.label_ratio:g}, but must be above 0 and at most 1")
        if not 0 < self.split_share < 1:
            raise UsageError(f"--split-share is {self.split_share:g}, but must lie between 0 and 1")
        self.fit_settings()  # refuses epochs and the like that are out of range

    def fit_settings(self) -> FitSettings:
        """Say the recipe to the training loop."""
        return FitSettings(
            epochs=self.epochs,
            lr=self.lr,
            optimizer=self.optimizer,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            lr_decay_rate=self.lr_decay_rate,
            lr_decay_epochs=tuple(round(share * self.epochs) for share in self.lr_decay_at),
            precision=self.precision,
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
        """Fine-tune and measure; ``out`` becomes a RUN (the tuned backbone) with ``head.safetensors`` beside it."""
        if encoder is None or isinstance(train, Embeddings) or isinstance(test, Embeddings):
            raise UsageError("finetune trains on images: give an encoder and sources of images, not stores")
        if ":" in encoder.backbone_name:
            raise UsageError(f"finetune takes backbones that timm can build again, not {encoder.backbone_name}")
        matched = match_classes(train.labels, train.classes, test.labels, test.classes, empty=train.notes.empty_classes)
        matched.warn()
        rows = self.labelled_rows(matched.train)
        labels = matched.train[rows]
        parents = {"encoder": encoder.fingerprint, "train": train.fingerprint, "test": test.fingerprint}
        state = None if out is None else out / "training" / fingerprint(as_dict(self), parents)
        known = test.take(np.flatnonzero(matched.test >= 0))
        model = self._train(encoder, train.take(rows), labels, known, matched.classes, state, quiet)
        answers, _, num_skipped = self._answers(model.chosen, encoder, known, matched.classes, quiet)
        details = {
            **matched.details(),
            **_label_counts(labels, matched.classes),
            "num_test_skipped": num_skipped,
            "chosen_on": self.choose_on,
            "epoch": self.epochs if model.kept is None else int(model.kept_score[2]),
            **describe(answers, matched.classes, seed=self.seed),
        }
        head = self._save(model.chosen, encoder, matched.classes, parents, out)
        return self.report(accuracies(answers), details, {**parents, "head": head.fingerprint})

    def labelled_rows(self, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Choose the train rows that keep their label; ``labels`` are -1 where there is none, int64 [n]."""
        draw = label_budget if self.label_draw == "stratified" else plain_label_budget
        return draw(labels, self.label_ratio, seed=self.seed)

    def _train(
        self,
        encoder: Encoder,
        images: ImageSource,
        labels: npt.NDArray[np.int64],
        test: ImageSource,
        classes: tuple[str, ...],
        state: Path | None,
        quiet: bool,
    ) -> Classifier:
        watched, kept = test, np.arange(len(labels))
        if self.choose_on == "split":
            kept, held = held_out_split(labels, self.split_share, seed=self.seed)
            if not len(held):
                raise UsageError("every class has a single labelled image: nothing to choose on; use --choose-on last")
            watched = images.take(held)
        model = Classifier(
            copy.deepcopy(encoder.backbone),
            dim=encoder.dim,
            num_classes=len(classes),
            seed=self.seed,
            keep_best=self.choose_on != "last",
        )

        def measure(moment: Moment) -> dict[str, float]:
            answers, loss, _ = self._answers(model.network, encoder, watched, classes, quiet=True)
            accuracy = accuracies(answers)[self.choose_by]
            model.keep_if_better(accuracy, loss, moment.epoch + 1)
            return {f"{self.choose_on}_{self.choose_by}": accuracy, f"{self.choose_on}_loss": loss}

        settings = self.fit_settings()
        fabric = make_fabric(settings.device, settings.precision)
        batches = labelled_views(
            images.take(kept),
            labels[kept],
            CropAndFlip(image_size=encoder.image_size, min_scale=self.min_scale, mean=encoder.mean, std=encoder.std),
            fabric,
            seed=self.seed,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            cache_mb=self.cache_mb,
            quiet=quiet,
        )
        with contextlib.closing(batches):
            fit(
                model,
                batches,
                settings,
                fabric=fabric,
                out=state,
                resume=True,
                label="finetune",
                quiet=quiet,
                on_epoch=None if model.kept is None else measure,
            )
        return model

    def _answers(
        self, network: Network, encoder: Encoder, images: ImageSource, classes: tuple[str, ...], quiet: bool
    ) -> tuple[Answers, float, int]:
        return answers_on_images(network, encoder, images, classes, num_workers=self.num_workers, quiet=quiet)

    def _save(
        self, network: Network, like: Encoder, classes: tuple[str, ...], parents: Mapping[str, str], out: Path | None
    ) -> Head:
        """Leave the tuned backbone as a RUN, so that it can be evaluated further, with the head beside it."""
        tuned = encoder_around(network.backbone, like)
        head = Head(
            weight=network.head.weight.detach().cpu(),
            bias=network.head.bias.detach().cpu(),
            classes=classes,
            encoder={"spec": BESIDE, "fingerprint": tuned.fingerprint},
        )
        if out is not None:
            described = {"backbone": like.backbone_name, **like.describe_inputs()}
            run = Checkpoint(
                path=out,
                config={
                    "method": name_of(self),
                    "method_settings": as_dict(self),
                    **described,
                    "parents": dict(parents),
                },
            )
            run.save()
            export_weights(network.backbone, run.weights, described)
            head.save(out / FILE_NAME)
        return head


def _label_counts(labels: npt.NDArray[np.int64], classes: tuple[str, ...]) -> dict[str, Any]:
    """Count the labels in use, and tell of classes that have none (a plain draw may leave some so)."""
    counts = dict(zip(classes, np.bincount(labels, minlength=len(classes)).tolist(), strict=True))
    without = [name for name, count in counts.items() if not count]
    if without:
        warnings.warn(f"{len(without)} of {len(classes)} classes got no label", SimcoreWarning, stacklevel=4)
    return {"num_labels": len(labels), "labels_per_class": counts, "classes_without_label": without}
