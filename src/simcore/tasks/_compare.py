"""Several reports as one table: a row a RUN, a column a metric of a task."""

from __future__ import annotations

import csv
import dataclasses
import io
import statistics
from collections.abc import Iterable, Mapping, Sequence

from rich.table import Table

from simcore.artifacts import Report
from simcore.errors import SimcoreError

# Figures that a report holds but that a table shows only when asked.
ASIDE = ("top5", "mean_per_class_published")
LATEX_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        **{c: f"\\{c}" for c in "&%$#_{}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
    }
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One figure of one run.

    Attributes:
        mean: mean over the reports of the run (of several seeds, as a rule).
        std: sample standard deviation over them; None for a single report.
        interval: 95 % interval of a single report, where it has one.
        num_reports: how many reports there were.
    """

    mean: float
    std: float | None
    interval: tuple[float, float] | None
    num_reports: int

    def __str__(self) -> str:
        if self.std is not None:
            return f"{self.mean:.2f} ± {self.std:.2f}"
        if self.interval is not None:
            return f"{self.mean:.2f} [{self.interval[0]:.2f}, {self.interval[1]:.2f}]"
        return f"{self.mean:.2f}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """A table of figures; ``cells`` lacks what a run was not measured by.

    Attributes:
        runs: row names, in the order given.
        columns: (task, metric) pairs, in the order in which they first occur.
        cells: figure of (run, column).
    """

    runs: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    cells: Mapping[tuple[str, tuple[str, str]], Cell]

    def best(self, column: tuple[str, str]) -> float:
        """Give the highest mean of a column, as it is printed."""
        return max(round(cell.mean, 2) for (_, name), cell in self.cells.items() if name == column)

    def is_best(self, run: str, column: tuple[str, str]) -> bool:
        """Tell whether a run has a column's highest printed figure, and is not the only run."""
        cell = self.cells.get((run, column))
        return cell is not None and len(self.runs) > 1 and round(cell.mean, 2) == self.best(column)

    def to_rich(self) -> Table:
        """Give a table for the terminal, the best figure of a column in bold."""
        table = Table("RUN", *(_title(column) for column in self.columns))
        for run in self.runs:
            words = []
            for column in self.columns:
                text = self._text(run, column).replace("[", r"\[")
                words.append(f"[bold]{text}[/bold]" if self.is_best(run, column) else text)
            table.add_row(run.replace("[", r"\["), *words)
        return table

    def to_lines(self) -> list[str]:
        """Give the table as aligned plain lines."""
        rows = [["", *(_title(column) for column in self.columns)]]
        rows += [[run, *(self._text(run, column) for column in self.columns)] for run in self.runs]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]

    def to_csv(self) -> str:
        """Give CSV with a header; each column has its mean, its std over reports and their number, unrounded."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        titles = [_title(column) for column in self.columns]
        writer.writerow(["run", *(f"{title}{part}" for title in titles for part in ("", " std", " n"))])
        for run in self.runs:
            writer.writerow([run, *(value for column in self.columns for value in self._numbers(run, column))])
        return text.getvalue()

    def to_latex(self) -> str:
        """Give a LaTeX tabular (package booktabs), the best figure of a column in bold."""
        titles = [_title(column).translate(LATEX_ESCAPES) for column in self.columns]
        head = " & ".join(["run", *titles])
        lines = [rf"\begin{{tabular}}{{l{'r' * len(self.columns)}}}", r"\toprule", rf"{head} \\", r"\midrule"]
        for run in self.runs:
            words = [self._latex(run, column) for column in self.columns]
            lines.append(" & ".join([run.translate(LATEX_ESCAPES), *words]) + r" \\")
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])

    def _text(self, run: str, column: tuple[str, str]) -> str:
        cell = self.cells.get((run, column))
        return "–" if cell is None else str(cell)

    def _latex(self, run: str, column: tuple[str, str]) -> str:
        text = self._text(run, column).replace("±", r"$\pm$").replace("–", "--")
        return rf"\textbf{{{text}}}" if self.is_best(run, column) else text

    def _numbers(self, run: str, column: tuple[str, str]) -> tuple[float | str, float | str, int]:
        cell = self.cells.get((run, column))
        if cell is None:
            return "", "", 0
        return cell.mean, "" if cell.std is None else cell.std, cell.num_reports


def compare(reports: Iterable[tuple[str, Report]], *, metrics: Sequence[str] | None = None) -> Comparison:
    """Line up reports by run, task and metric.

    Args:
        reports: (name of the run, report); several reports of one task and run are taken as its seeds.
        metrics: names to show; all but top-5 and the published mean per class if None.
    """
    found: dict[tuple[str, tuple[str, str]], list[tuple[float, Report]]] = {}
    for run, report in reports:
        for name, value in report.metrics.items():
            if (name in metrics) if metrics is not None else not name.rpartition("/")[2].startswith(ASIDE):
                found.setdefault((run, (report.task, name)), []).append((value, report))
    if not found:
        raise SimcoreError("no figure to compare")
    return Comparison(
        runs=tuple(dict.fromkeys(run for run, _ in found)),
        columns=tuple(dict.fromkeys(column for _, column in found)),
        cells={place: _cell(place[1][1], values) for place, values in found.items()},
    )


def _cell(metric: str, values: Sequence[tuple[float, Report]]) -> Cell:
    numbers = [value for value, _ in values]
    interval = values[0][1].details.get("interval_95", {}).get(metric)
    return Cell(
        mean=statistics.fmean(numbers),
        std=statistics.stdev(numbers) if len(numbers) > 1 else None,
        interval=tuple(interval) if interval and len(numbers) == 1 else None,
        num_reports=len(numbers),
    )


def _title(column: tuple[str, str]) -> str:
    return f"{column[0]} {column[1]}"
