"""Targets with several attributes (an aircraft's family and its manufacturer): one task, run for each of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from simcore.artifacts import Embeddings, Report
from simcore.errors import UsageError
from simcore.tasks._task import Task

if TYPE_CHECKING:
    from simcore.embedding import Encoder
    from simcore.images import ImageSource


def run_attributes(
    task: Task,
    encoder: Encoder | None,
    attributes: Mapping[str, tuple[ImageSource | Embeddings, ImageSource | Embeddings]],
    *,
    out: Path | None = None,
    quiet: bool = False,
) -> Report:
    """Run a task once for each attribute, as the multi-attribute evaluation of Kim et al. 2023 (Table 7d) does.

    Args:
        attributes: name -> (train, test), each labelled by that attribute alone.
        out: gets a folder for each attribute, with its own head and figures, beside the joint ``metrics.json``.

    Returns:
        Metrics named ``ATTRIBUTE/METRIC``, and ``mean/METRIC`` over the attributes; the details of each by its name.
    """
    if not attributes:
        raise UsageError("no attribute to evaluate")
    reports = {
        name: task.run(encoder, train, test, out=None if out is None else out / name, quiet=quiet)
        for name, (train, test) in attributes.items()
    }
    shared = [
        m for m in next(iter(reports.values())).metrics if all(m in report.metrics for report in reports.values())
    ]
    metrics = {
        f"{name}/{metric}": value for name, report in reports.items() for metric, value in report.metrics.items()
    }
    metrics |= {f"mean/{m}": sum(report.metrics[m] for report in reports.values()) / len(reports) for m in shared}
    parents = {f"{name}/{part}": value for name, report in reports.items() for part, value in report.parents.items()}
    joint = task.report(metrics, {name: report.details for name, report in reports.items()}, parents)
    if out is not None:
        joint.save(out / "metrics.json")
    return joint
