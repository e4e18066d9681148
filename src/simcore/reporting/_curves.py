"""The series behind the figures: objective, precision, picks per cluster, training."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from simcore.artifacts import Embeddings, Selection
from simcore.training.log import read_log

MAX_POINTS = 400


@dataclasses.dataclass(frozen=True)
class Series:
    """One line of a chart: ``x`` and ``y`` of equal length, None in ``y`` where a value is missing."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    kind: str = "main"


@dataclasses.dataclass(frozen=True)
class Stop:
    """Where the objective had to stay: the threshold, and the round it refers to (0 where none was set)."""

    threshold: float
    patience: int
    ratio: float


def thin(x: Iterable[float], y: Iterable[float], most: int = MAX_POINTS) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Keep at most ``most`` points, evenly spread, first and last among them."""
    xs, ys = list(x), list(y)
    keep = np.unique(np.linspace(0, len(xs) - 1, min(most, len(xs))).round().astype(int)).tolist() if xs else []
    return tuple(float(xs[i]) for i in keep), tuple(float(ys[i]) for i in keep)


def setting_of(settings: Mapping[str, Any], name: str) -> Any:
    """Look a setting up at the top of ``settings`` or one level below."""
    if name in settings:
        return settings[name]
    inner = (value for value in settings.values() if isinstance(value, Mapping))
    return next((value[name] for value in inner if name in value), None)


def objective(selection: Selection) -> Series | None:
    """Give the selector's objective by round."""
    values = np.asarray(selection.objective, np.float64)
    rounds = np.arange(1, len(values) + 1)[np.isfinite(values)]
    if len(rounds) < 2:
        return None
    return Series("objective", *thin(rounds, values[rounds - 1]))


def stop_of(selection: Selection) -> Stop | None:
    """Work out the threshold of the stop rule, where one was set and its reference round was reached."""
    ratio, patience = (setting_of(selection.settings, name) for name in ("stop_ratio", "patience"))
    if not isinstance(ratio, int | float) or not isinstance(patience, int):
        return None
    if not 1 <= patience <= len(selection.objective):
        return None
    return Stop(float(ratio) * selection.objective[patience - 1], patience, float(ratio))


def hits(selection: Selection, target: Embeddings | None) -> npt.NDArray[np.bool_] | None:
    """Tell for each pick whether its class is one of the target's, by name; None where labels or names lack."""
    if selection.labels is None or target is None or not target.classes or not selection.classes:
        return None
    wanted = np.asarray([name in set(_present(target)) for name in selection.classes] + [False])
    if not wanted.any() or not (selection.labels >= 0).any():
        return None
    return wanted[np.clip(selection.labels, -1, len(selection.classes))]


def base_rate(pool: Embeddings | None, target: Embeddings | None) -> float | None:
    """Give the share of the pool's labelled rows whose class is one of the target's.

    Rows of the target's own images do not count: they could not be chosen.
    """
    if pool is None or target is None:
        return None
    wanted = set(_present(target))
    known = hit = 0
    free = np.setdiff1d(np.arange(len(pool)), pool.rows_shared_with(target))
    for entry in pc.value_counts(pool.table["label"].take(free)).to_pylist():
        if entry["values"] is not None and 0 <= entry["values"] < len(pool.classes):
            known += entry["counts"]
            hit += entry["counts"] * (pool.classes[entry["values"]] in wanted)
    return hit / known if known else None


def _present(target: Embeddings) -> list[str]:
    """The classes that the target's rows have (a part of a source keeps all its names)."""
    rows = np.unique(target.labels)
    return [target.classes[label] for label in rows if 0 <= label < len(target.classes)]


def precision(hit: npt.NDArray[np.bool_]) -> Series:
    """Give the share of hits, in percent, among the first n picks for every n."""
    budgets = np.arange(1, len(hit) + 1)
    share = 100.0 * np.cumsum(hit) / budgets
    start = min(len(hit) - 1, 9)  # a share of fewer than ten picks says nothing
    return Series("precision", *thin(budgets[start:], share[start:]))


def training(run: Path) -> Series | None:
    """Read a run's loss by epoch from its log; None where there is none."""
    lines = [line for line in read_log(run) if line.get("event") == "epoch"]
    known = [line for line in lines if isinstance(line.get("loss"), int | float)]
    return (
        Series(run.name, *thin([line["epoch"] for line in known], [line["loss"] for line in known])) if known else None
    )
