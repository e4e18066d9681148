"""The outcome of a recipe: one row an arm, one column a figure, mean and spread over seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simcore.artifacts import Report
from simcore.artifacts.files import write_json
from simcore.errors import SimcoreError

if TYPE_CHECKING:
    from simcore.tasks import Comparison


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """All figures of a recipe; each report's settings name its ``arm`` and ``seed``."""

    out: Path
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    reports: tuple[Report, ...]
    page: Path | None = None

    @classmethod
    def gather(cls, out: Path, *, arms: Sequence[str], seeds: Sequence[int], tasks: Sequence[str]) -> Outcome:
        """Collect what the evaluations of a recipe left below ``out``."""
        reports = []
        for arm in arms:
            for task in tasks:
                for seed in seeds:
                    found = Report.load(out / "evaluations" / f"{arm}-seed{seed}-{task}")
                    reports.append(dataclasses.replace(found, settings={**found.settings, "arm": arm, "seed": seed}))
        return cls(out=out, arms=tuple(arms), seeds=tuple(seeds), reports=tuple(reports))

    def with_page(self, page: Path | None) -> Outcome:
        """Note where the report lies, and write everything to ``outcome.json``."""
        whole = dataclasses.replace(self, page=page)
        write_json(self.out / "outcome.json", whole.to_json())
        return whole

    @property
    def figures(self) -> dict[str, dict[str, list[float]]]:
        """``figures[arm]["task metric"]``: one value a seed, in the order of ``seeds``."""
        found: dict[str, dict[str, list[float]]] = {arm: {} for arm in self.arms}
        for report in self.reports:
            for name, value in report.metrics.items():
                found[report.settings["arm"]].setdefault(f"{report.task} {name}", []).append(value)
        return found

    def comparison(self) -> Comparison | None:
        """Line up the arms, or None where nothing was evaluated."""
        from simcore.tasks import compare

        try:
            return compare((report.settings["arm"], report) for report in self.reports)
        except SimcoreError:
            return None

    def to_json(self) -> dict[str, Any]:
        """Everything, ready for ``json.dumps``."""
        table = self.comparison()
        return {
            "out": str(self.out),
            "seeds": list(self.seeds),
            "figures": self.figures,
            "table": table.to_lines() if table else [],
            "report": str(self.page) if self.page else None,
        }
