from __future__ import annotations

import pytest

from simcore.artifacts import Report
from simcore.errors import UsageError
from simcore.tasks._attributes import run_attributes
from simcore.tasks.knn import KNN


def test_each_attribute_is_evaluated_by_itself(store, tmp_path):
    rows = [[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]
    family = store(rows, ["a", "a", "b", "b"]), store(rows, ["a", "a", "b", "b"])
    maker = store(rows, ["x", "x", "y", "y"]), store(rows, ["x", "y", "y", "y"])
    task = KNN(k=(2,), device="cpu")
    report = run_attributes(task, None, {"family": family, "maker": maker}, out=tmp_path)
    assert report.metrics["family/top1_k2"] == 100.0
    assert report.metrics["maker/top1_k2"] == 75.0
    assert report.metrics["mean/top1_k2"] == 87.5
    assert report.parents["maker/test"] == maker[1].fingerprint
    assert Report.load(tmp_path).metrics == report.metrics
    assert Report.load(tmp_path / "maker").metrics == task.run(None, *maker).metrics


def test_no_attribute_is_no_evaluation():
    with pytest.raises(UsageError):
        run_attributes(KNN(), None, {})
