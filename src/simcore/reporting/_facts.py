"""What the page says in words and tables: counts, why it stopped, what was left out, evaluations."""

from __future__ import annotations

import collections
import dataclasses
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from simcore.artifacts import Embeddings, Report, Selection
from simcore.reporting._curves import setting_of, stop_of

Column = tuple[str, str]  # task and metric

MAX_REASONS = 12
HEADLINE_METRICS = ("top1", "top5", "mean_per_class", "mean_ap", "miou", "auroc")


@dataclasses.dataclass(frozen=True)
class Fact:
    """One figure of the header: a short label, the value as text, a remark."""

    label: str
    value: str
    note: str = ""


def facts(selection: Selection, pool: Embeddings | None, rate: float | None, hit_share: float | None) -> list[Fact]:
    """Choose the figures that say most about a coreset."""
    told = [Fact("picks", f"{len(selection):,}", _share_of(len(selection), pool))]
    num_clusters = len(np.unique(selection.clusters[selection.clusters >= 0]))
    if num_clusters:
        told.append(Fact("clusters", f"{num_clusters:,}", "that picked something"))
    num_rounds = len(np.unique(selection.rounds[selection.rounds > 0]))
    if num_rounds:
        told.append(Fact("rounds", f"{num_rounds:,}", _stop_word(selection.stop_reason)))
    known = selection.similarities[np.isfinite(selection.similarities)]
    if len(known):
        told.append(Fact("mean similarity", f"{known.mean():.3f}", f"{known.min():.3f} to {known.max():.3f}"))
    if hit_share is not None:
        times = f"; {hit_share / rate:.1f} times the pool's {100 * rate:.1f} %" if rate else ""
        told.append(Fact("of a target class", f"{100 * hit_share:.1f} %", f"by label{times}"))
    return told


def _share_of(number: int, pool: Embeddings | None) -> str:
    return f"{100 * number / len(pool):.3g} % of {len(pool):,}" if pool is not None and len(pool) else "of the pool"


def _stop_word(reason: str) -> str:
    return {"budget": "until the budget", "stop": "until the stop rule", "exhausted": "until the pool's end"}.get(
        reason, reason
    )


def why_stopped(selection: Selection) -> str:
    """Say in a sentence what ended the selection."""
    budget = setting_of(selection.settings, "budget")
    if selection.stop_reason == "stop":
        stop = stop_of(selection)
        fired = selection.settings.get("stop")
        if isinstance(fired, Mapping) and {"round", "objective", "threshold"} <= fired.keys():
            return (
                f"Round {fired['round']} was discarded: its mean similarity {fired['objective']:.4f} lay below the "
                f"threshold {fired['threshold']:.4f}{_of_reference(stop)}."
            )
        return f"The next round's mean similarity lay below the threshold{_of_reference(stop)}."
    if selection.stop_reason == "exhausted":
        return "Every usable image of the pool was chosen before the budget was spent."
    if selection.stop_reason == "budget":
        return f"The budget of {budget:,} was reached." if isinstance(budget, int) else "The budget was reached."
    return f"It ended with: {selection.stop_reason}."


def _of_reference(stop: Any) -> str:
    return f" ({stop.ratio:g} of round {stop.patience}'s)" if stop else ""


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """Items that did not take part: where, how many, why, and a few of them by name."""

    where: str
    count: int
    reason: str
    ids: tuple[str, ...] = ()


def left_out(selection: Selection, target: Embeddings | None, pool: Embeddings | None) -> list[LeftOut]:
    """List what was skipped while embedding and what the selection could not use."""
    listed = []
    for where, store in (("target", target), ("pool", pool)):
        if store is not None:
            listed += _skipped(where, store)
    if selection.num_invalid:
        listed.append(LeftOut("pool", selection.num_invalid, "feature row holds NaN, infinity or only zeros"))
    return listed


def _skipped(where: str, store: Embeddings) -> list[LeftOut]:
    if not store.num_skipped:
        return []
    try:
        table = pq.read_table(store.path / "skipped.parquet") if store.path is not None else None
    except (OSError, pa.ArrowInvalid):
        table = None
    if table is None or not table.num_rows:
        return [LeftOut(where, store.num_skipped, "not readable")]
    by_reason: dict[str, list[str]] = collections.defaultdict(list)
    for name, reason in zip(table["id"].to_pylist(), table["reason"].to_pylist(), strict=True):
        by_reason[str(reason)].append(str(name))
    ordered = sorted(by_reason.items(), key=lambda entry: (-len(entry[1]), entry[0]))
    shown = [LeftOut(where, len(ids), reason, tuple(ids[:3])) for reason, ids in ordered[:MAX_REASONS]]
    rest = sum(len(ids) for _, ids in ordered[MAX_REASONS:])
    return [*shown, *([LeftOut(where, rest, "other reasons")] if rest else [])]


@dataclasses.dataclass(frozen=True)
class Cell:
    """Mean, spread and values of one figure over seeds; ``best`` where no other row's mean is higher."""

    mean: float
    spread: float | None
    values: tuple[float, ...]
    best: bool = False


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Rows (arms or encoders) against columns (task and metric); a cell is None where it was not measured.

    ``ranges`` gives each column's lowest and highest value, over all rows and seeds.
    """

    columns: tuple[Column, ...]
    ranges: tuple[tuple[float, float], ...]
    rows: tuple[tuple[str, tuple[Cell | None, ...]], ...]
    num_seeds: int


def comparison(reports: Sequence[Report]) -> Comparison | None:
    """Gather reports into a table: one row an arm (or encoder), mean and deviation over its seeds."""
    values: dict[str, dict[Column, list[float]]] = {}
    for report in reports:
        row = values.setdefault(arm_of(report), {})
        for name in _headlines(report):
            row.setdefault((report.task, name), []).append(float(report.metrics[name]))
    found = list(dict.fromkeys(column for row in values.values() for column in row))
    columns = tuple(c for place, c in enumerate(found) if _says_more(c, found[:place], list(values.values())))
    if not columns:
        return None
    best = {c: max(statistics.fmean(row[c]) for row in values.values() if c in row) for c in columns}
    rows = tuple(
        (arm, tuple(_cell(row[c], best[c], len(values)) if c in row else None for c in columns))
        for arm, row in values.items()
    )
    every = {c: [value for row in values.values() for value in row.get(c, ())] for c in columns}
    ranges = tuple((min(every[c]), max(every[c])) for c in columns)
    return Comparison(columns, ranges, rows, max(len(v) for row in values.values() for v in row.values()))


def arm_of(report: Report) -> str:
    """Name the row of a report: its arm, or else its encoder."""
    named = report.settings.get("arm") or report.details.get("encoder_name") or report.parents.get("encoder")
    return str(named or report.task)


def _headlines(report: Report) -> list[str]:
    """Choose the metrics worth a column: the known accuracies without their variants, or else all."""
    known = [name for name in report.metrics if name.startswith(HEADLINE_METRICS) and "published" not in name]
    return known or list(report.metrics)


def _says_more(column: Column, before: Sequence[Column], rows: Collection[Mapping[Column, list[float]]]) -> bool:
    """Tell whether a column differs from the earlier ones of its task (on even classes, mean per class is top-1)."""
    told = [[round(value, 3) for row in rows for value in row.get(each, ())] for each in (column, *before)]
    return all(each[0] != column[0] or values != told[0] for each, values in zip(before, told[1:], strict=True))


def _cell(values: list[float], best: float, num_rows: int) -> Cell:
    mean = statistics.fmean(values)
    spread = statistics.stdev(values) if len(values) > 1 else None
    return Cell(mean, spread, tuple(values), best=num_rows > 1 and mean == best)


def flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Write nested settings as pairs of a dotted name and a text."""
    pairs: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            pairs += flat(value, f"{prefix}{name}.")
        else:
            pairs.append((f"{prefix}{name}", "none" if value is None else str(value)))
    return pairs
