"""Targets with several attributes (an aircraft's family and its manufacturer): one task, run for each of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from simcore.artifacts import Embeddings, Report
from simcore.artifacts.files import fingerprint
from simcore.errors import UsageError
from simcore.tasks._features import embedded_rows, embedder_for, features_of
from simcore.tasks._task import Task

if TYPE_CHECKING:
    from simcore.embedding import Encoder
    from simcore.images import ImageSource

MEAN = "mean"


def run_attributes(
    task: Task,
    encoder: Encoder | None,
    attributes: Mapping[str, tuple[ImageSource | Embeddings, ImageSource | Embeddings]],
    *,
    out: Path | None = None,
    quiet: bool = False,
) -> Report:
    """Run a task once for each attribute, as the multi-attribute evaluation of Kim et al. 2023 (Table 7d) does.

    Where the task works on frozen features, images that several attributes share are embedded once.

    Args:
        attributes: name -> (train, test), each labelled by that attribute alone.
        out: gets a folder for each attribute, with its own head and figures, beside the joint ``metrics.json``.

    Returns:
        Metrics named ``ATTRIBUTE/METRIC``, and ``mean/METRIC`` over the attributes; the details of each by its name.
    """
    if not attributes:
        raise UsageError("no attribute to evaluate")
    if MEAN in attributes:
        raise UsageError(f"an attribute called '{MEAN}' cannot be told from the mean over the attributes; rename it")
    sets = _embedded(task, encoder, attributes, out, quiet) if task.on_features and encoder is not None else attributes
    reports = {
        name: task.run(encoder, train, test, out=None if out is None else out / name, quiet=quiet)
        for name, (train, test) in sets.items()
    }
    shared = [
        m for m in next(iter(reports.values())).metrics if all(m in report.metrics for report in reports.values())
    ]
    metrics = {
        f"{name}/{metric}": value for name, report in reports.items() for metric, value in report.metrics.items()
    }
    metrics |= {f"{MEAN}/{m}": sum(report.metrics[m] for report in reports.values()) / len(reports) for m in shared}
    parents = {f"{name}/{part}": value for name, report in reports.items() for part, value in report.parents.items()}
    joint = task.report(metrics, {name: report.details for name, report in reports.items()}, parents)
    if out is not None:
        joint.save(out / "metrics.json")
    return joint


def by_attribute(joint: Report) -> dict[str, Report]:
    """Take a joint report apart: the metrics of each attribute, and of their mean, by its name."""
    parts: dict[str, dict[str, float]] = {}
    for metric, value in joint.metrics.items():
        attribute, _, name = metric.rpartition("/")
        parts.setdefault(attribute, {})[name] = value
    return {
        attribute: Report(task=joint.task, metrics=metrics, details=joint.details.get(attribute, {}))
        for attribute, metrics in parts.items()
    }


def _embedded(
    task: Task,
    encoder: Encoder,
    attributes: Mapping[str, tuple[ImageSource | Embeddings, ImageSource | Embeddings]],
    out: Path | None,
    quiet: bool,
) -> dict[str, tuple[Embeddings, Embeddings]]:
    """Embed the images of both sets, those that the first attribute has seen already but once."""
    embedder = embedder_for(encoder, task, quiet=quiet)
    cache = None if out is None else out / "features"
    known: dict[str, Embeddings] = {}

    def features(images: ImageSource | Embeddings) -> Embeddings:
        if isinstance(images, Embeddings):
            return images
        same = fingerprint(images.table["id"].to_pylist(), images.table["uri"].to_pylist())
        if same not in known:
            known[same] = features_of(embedder, images, cache=cache)
        return _labelled_as(known[same], images)

    return {name: (features(train), features(test)) for name, (train, test) in attributes.items()}


def _labelled_as(made: Embeddings, images: ImageSource) -> Embeddings:
    """Give the features the labels of ``images``, which are the same images under another attribute."""
    labels = images.table["label"].combine_chunks().take(pa.array(embedded_rows(images, made)))
    at = made.table.schema.get_field_index("label")
    own = fingerprint(made.fingerprint, images.fingerprint)
    return dataclasses.replace(
        made,
        table=made.table.set_column(at, "label", labels),
        classes=images.classes,
        info={**made.info, "fingerprint": own, "empty_classes": list(images.notes.empty_classes)},
    )
