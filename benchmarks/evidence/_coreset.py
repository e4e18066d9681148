"""What the figures say about the coreset: whether pretraining on it helps."""

from __future__ import annotations

import re
from collections.abc import Iterable
from statistics import fmean
from typing import Any

from _page import Interval, Results, Row, Told, by, capital, compared, listed, number, paired, table, verdict

METRICS = ("linear", "knn")
KEYS = ("target", "arm", "seed", "method", "per_class", *METRICS, "gpu")


def plain(name: str) -> str:
    """Write an arm's name in one way, however a benchmark spells it."""
    return re.sub(r"[\s_]|only|alone", "", name.lower())


def accuracies(rows: Iterable[Row], metric: str) -> dict[Any, float]:
    return {(row["target"], row["seed"]): row[metric] for row in rows if row.get(metric) is not None}


def main_table(results: Results) -> Told:
    """Compare every arm with random picks and with the target alone: each size of X, each target and all of them."""
    answers, tables = [], []
    for content in results.values():
        rows: list[Row] = content["rows"]
        length = f", {content['settings']['steps']:,} steps" if len(results) > 1 else ""
        for (method, size), of_both in by(rows, "method", "per_class").items():
            name, arms = f"{method}{length}, {size} images of X a class", by(of_both, "arm")
            answers += [f"{name}: {sentence}" for sentence in gains_told(arms)]
            tables += [f"**{name}**\n\n{accuracy_table(arms)}", gain_table(arms)]
    return Told(" ".join(answers), tuple(table for table in tables if table))


def arm_called(arms: Iterable[str], wanted: str) -> str | None:
    return next((name for name in arms if plain(name) == wanted), None)


def gains_told(arms: dict[str, list[Row]]) -> list[str]:
    """Judge arms against random picks, and those against X, over all targets and seeds, by the first metric at hand."""
    base, alone, picked = (arm_called(arms, name) for name in ("x+random", "x", "x+oracle"))
    metric = next((m for m in METRICS if all(accuracies(rows, m) for rows in arms.values())), None)
    if base is None or metric is None:
        return []

    def gain(name: str, over: str) -> Interval:
        return Interval.of(paired(accuracies(arms[name], metric), accuracies(arms[over], metric)))

    gains = {name: gain(name, base) for name in arms if name not in (base, alone, picked)}
    told = sorted(gains, key=lambda name: -gains[name].mean)
    sentences = (
        [f"{listed([compared(name, gains[name], base) for name in told])} in {metric} accuracy."] if told else []
    )
    if picked is not None:
        sentences.append(f"With its classes picked by hand, {compared(picked, gain(picked, base), base)}.")
    if alone is not None:
        sentences.append(capital(compared(base, gain(base, alone), alone)) + ".")
    return sentences


def accuracy_table(arms: dict[str, list[Row]]) -> str:
    targets = list(dict.fromkeys(row["target"] for rows in arms.values() for row in rows))
    metrics = [m for m in METRICS if any(accuracies(rows, m) for rows in arms.values())]
    extra = [
        key
        for key in dict.fromkeys(key for rows in arms.values() for row in rows for key in row)
        if key not in KEYS
        and all(isinstance(row.get(key), int | float | None) for rows in arms.values() for row in rows)
    ]

    def line(name: str, rows: list[Row]) -> list[Any]:
        cells: list[Any] = [name]
        for metric in metrics:
            for target in targets:
                values = [row[metric] for row in rows if row["target"] == target and row.get(metric) is not None]
                cells.append(Interval.of(values) if values else "")
        known = [[row[key] for row in rows if row.get(key) is not None] for key in extra]
        return [*cells, *(fmean(values) if values else "" for values in known)]

    head = ["arm", *(f"{target}, {metric}" for metric in metrics for target in targets), *extra]
    return table(head, [line(*item) for item in arms.items()])


def gain_table(arms: dict[str, list[Row]]) -> str:
    """Gains over random picks with the same target and seed; over all, the pairs of all targets make one interval."""
    base = arm_called(arms, "x+random")
    if base is None:
        return ""
    lines = []
    for name, rows in arms.items():
        for metric in METRICS if name != base else ():
            mine, theirs = accuracies(rows, metric), accuracies(arms[base], metric)
            if not paired(mine, theirs):
                continue
            cells = []
            for target in dict.fromkeys(key[0] for key in mine):
                own = {key: value for key, value in mine.items() if key[0] == target}
                gain = Interval.of(paired(own, theirs))
                cells.append(f"{target}: {verdict(gain)} ({gain.signed})")
            over = Interval.of(paired(mine, theirs))
            lines.append([name, metric, "; ".join(cells), f"{verdict(over)} ({over.signed})"])
    return table(["arm", "accuracy", f"against {base}", "over all targets and seeds"], lines)


def fine_grained(results: Results) -> Told:
    """Judge the arms of the command-line run on each target that has one."""
    answers, lines = [], []
    for content in results.values():
        target, figures = content["settings"]["target"], content["figures"]
        arms, seeds = figures["accuracy"], content["settings"]["seeds"]
        for metric in ("linear top1", "knn top1_k20"):
            values = {arm: dict(zip(seeds, found[metric], strict=True)) for arm, found in arms.items()}
            gains = {arm: Interval.of(paired(values[arm], values["x+random"])) for arm in values if arm != "x+random"}
            told = [compared(arm, gain, "x+random") for arm, gain in gains.items()]
            answers.append(f"On {target}, by {metric.split()[0]} accuracy, {listed(told)}.")
            lines += [[target, arm, metric, Interval.of(found.values())] for arm, found in values.items()]
        chosen = {arm: fmean(values) for arm, values in figures["precision"].items()}
        shares = listed([f"{number(value)} % ({arm})" for arm, value in chosen.items()])
        answers.append(f"Of its picks {shares} are of the target's classes, of the pool {figures['base_rate']:.1f} %.")
    return Told(" ".join(answers), (table(["target", "pretrained on", "accuracy", "percent"], lines),))
