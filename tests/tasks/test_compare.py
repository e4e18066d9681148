from __future__ import annotations

import csv
import io

import pytest
from rich.console import Console

from simcore.artifacts import Report
from simcore.errors import SimcoreError
from simcore.tasks._compare import compare


def report(task="linear", interval=None, **metrics):
    details = {"interval_95": interval} if interval else {}
    return Report(task=task, metrics=metrics, details=details)


@pytest.fixture
def table():
    return compare(
        [
            ("runs/x_only", report(top1=50.0, top5=90.0)),
            ("runs/x_only", report(top1=54.0, top5=92.0)),
            ("runs/x+s", report(top1=60.0, top5=90.0, interval={"top1": [58.0, 62.0]})),
            ("runs/x+s", report("knn", top1_k20=40.0, mean_per_class_published_k20=1.0)),
        ]
    )


def test_rows_are_runs_and_columns_are_metrics_of_tasks(table):
    assert table.runs == ("runs/x_only", "runs/x+s")
    assert table.columns == (("linear", "top1"), ("knn", "top1_k20"))


def test_several_reports_are_seeds_and_one_has_its_interval(table):
    cell = table.cells["runs/x_only", ("linear", "top1")]
    assert (cell.mean, cell.num_reports) == (52.0, 2)
    assert cell.std == pytest.approx(8**0.5)
    assert str(cell) == "52.00 ± 2.83"
    assert str(table.cells["runs/x+s", ("linear", "top1")]) == "60.00 [58.00, 62.00]"


def test_metrics_can_be_asked_for():
    assert compare([("a", report(top1=1.0, top5=2.0))], metrics=["top5"]).columns == (("linear", "top5"),)
    with pytest.raises(SimcoreError, match="no figure"):
        compare([("a", report(top1=1.0))], metrics=["map"])


def test_text_shows_every_figure_and_gaps(table):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table.to_rich())
    text = console.export_text()
    assert "60.00 [58.00, 62.00]" in text
    assert "–" in text.split("x_only")[1].splitlines()[0]


def test_csv_reads_back_unrounded(table):
    rows = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert float(rows[0]["linear top1 std"]) == pytest.approx(8**0.5, abs=1e-12)
    assert rows[0]["knn top1_k20"] == ""
    assert rows[1]["knn top1_k20 n"] == "1"


def test_latex_is_escaped_and_marks_the_best(table):
    text = table.to_latex()
    assert r"runs/x\_only" in text
    assert r"knn top1\_k20" in text
    assert r"\textbf{60.00 [58.00, 62.00]}" in text
    assert r"\textbf{52" not in text
    assert text.count(r"\\") == 3


def test_equal_figures_are_both_best():
    table = compare([("a", report(top1=1.0)), ("b", report(top1=1.0))])
    assert all(table.is_best(run, ("linear", "top1")) for run in "ab")
