"""The outcome of a recipe: one row an arm, one column a figure, mean and spread over seeds."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simcore.artifacts import Report
from simcore.artifacts.files import write_json

HEADLINES = ("top1", "top5", "mean_per_class")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """All figures of a recipe.

    ``figures[arm][column]`` lists one value a seed, in the order of ``seeds``; columns are ``task metric``.
    """

    out: Path
    seeds: tuple[int, ...]
    figures: dict[str, dict[str, list[float]]]
    reports: tuple[Report, ...] = ()
    report: Path | None = None

    @classmethod
    def gather(cls, out: Path, *, arms: Sequence[str], seeds: Sequence[int], tasks: Sequence[str]) -> Outcome:
        """Collect what the evaluations of a recipe left below ``out`` and write ``outcome.json``."""
        figures: dict[str, dict[str, list[float]]] = {arm: {} for arm in arms}
        reports = []
        for arm in arms:
            for task in tasks:
                for seed in seeds:
                    found = Report.load(out / "evaluations" / f"{arm}-seed{seed}-{task}")
                    reports.append(dataclasses.replace(found, settings={**found.settings, "arm": arm, "seed": seed}))
                    for name, value in found.metrics.items():
                        figures[arm].setdefault(f"{task} {name}", []).append(value)
        outcome = cls(out=out, seeds=tuple(seeds), figures=figures, reports=tuple(reports))
        write_json(out / "outcome.json", outcome.to_json())
        return outcome

    def with_report(self, page: Path | None) -> Outcome:
        """Note where the page lies."""
        return dataclasses.replace(self, report=page)

    def to_json(self) -> dict[str, Any]:
        """Everything, ready for ``json.dumps``."""
        return {
            "out": str(self.out),
            "seeds": list(self.seeds),
            "figures": self.figures,
            "table": self.table(),
            **({"report": str(self.report)} if self.report else {}),
        }

    def table(self) -> list[str]:
        """The comparison as aligned lines: mean ± standard deviation over seeds, in percent."""
        columns = [c for c in _columns(self.figures) if c.split()[1].startswith(HEADLINES)]
        if not columns:
            return []
        rows = [["arm", *columns]]
        rows += [[arm, *(_mean_and_spread(values.get(c, [])) for c in columns)] for arm, values in self.figures.items()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return [
            *lines,
            f"(percent; mean ± standard deviation over {len(self.seeds)} seed{'s'[: len(self.seeds) != 1]})",
        ]


def _columns(figures: dict[str, dict[str, list[float]]]) -> list[str]:
    return list(dict.fromkeys(column for values in figures.values() for column in values))


def _mean_and_spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{spread}"
