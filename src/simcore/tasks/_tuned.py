"""What every task that tunes a backbone does before and after: checks, label counts, and the RUN that it leaves."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from simcore.artifacts import Checkpoint, Embeddings
from simcore.artifacts.files import fingerprint
from simcore.backbones import export_weights
from simcore.embedding import Encoder
from simcore.errors import SimcoreError, SimcoreWarning, UsageError
from simcore.images import ImageSource
from simcore.registry import name_of
from simcore.settings import as_dict
from simcore.tasks._features import described
from simcore.tasks._head import BESIDE, FILE_NAME, Head
from simcore.tasks._labels import Labels
from simcore.tasks._supervised import Network, encoder_around
from simcore.tasks._task import Task
from simcore.training.settings import FREE_SETTINGS


def check_inputs(
    task: Task,
    encoder: Encoder | None,
    train: ImageSource | Embeddings,
    test: ImageSource | Embeddings,
    out: Path | None,
) -> tuple[Encoder, ImageSource, ImageSource]:
    """Give back what a task can tune; refuse stores, networks that cannot be built again, and another RUN's folder."""
    name = name_of(task)
    if encoder is None or isinstance(train, Embeddings) or isinstance(test, Embeddings):
        raise UsageError(f"{name} trains on images: give an encoder and sources of images, not stores")
    if ":" in encoder.backbone_name:
        raise UsageError(f"{name} takes backbones that timm can build again, not {encoder.backbone_name}")
    if out is not None and (out / "config.yaml").exists() and Checkpoint.load(out).config.get("method") != name:
        raise SimcoreError(f"{out}: holds another RUN; choose another folder for the tuned one")
    return encoder, train, test


def label_counts(labels: Labels, classes: tuple[str, ...]) -> dict[str, Any]:
    """Count the labels in use, and tell of classes that have none (a plain draw may leave some so)."""
    counts = dict(zip(classes, np.bincount(labels, minlength=len(classes)).tolist(), strict=True))
    without = [name for name, count in counts.items() if not count]
    if without:
        warnings.warn(f"{len(without)} of {len(classes)} classes got no label", SimcoreWarning, stacklevel=4)
    return {"num_labels": len(labels), "labels_per_class": counts, "classes_without_label": without}


def state_folder(task: Task, parents: Mapping[str, str], out: Path | None) -> Path | None:
    """Name the folder of a training's state, so that only a run of the same makings goes on from it."""
    settings = {name: value for name, value in as_dict(task).items() if name not in FREE_SETTINGS}
    return None if out is None else out / "training" / fingerprint(settings, dict(parents))


def save_tuned(
    task: Task,
    network: Network,
    like: Encoder,
    *,
    classes: tuple[str, ...],
    parents: Mapping[str, str],
    out: Path | None,
) -> Head:
    """Leave the tuned backbone as a RUN, so that it can be evaluated further, with the head beside it.

    ``like`` is the encoder that tuning began with: its preprocessing is also that of the tuned one.
    """
    tuned = encoder_around(network.backbone, like)
    head = Head(
        weight=network.head.weight.detach().cpu(),
        bias=network.head.bias.detach().cpu(),
        classes=classes,
        encoder={**described(tuned), "spec": BESIDE},
    )
    if out is not None:
        inputs = {"backbone": tuned.backbone_name, **tuned.describe_inputs()}
        made = {"method": name_of(task), "method_settings": as_dict(task), "parents": dict(parents)}
        run = Checkpoint(path=out, config={**inputs, **made})
        run.save()
        export_weights(network.backbone, run.weights, inputs)
        head.save(out / FILE_NAME)
    return head
