from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import torch

from simcore.errors import SimcoreError, SimcoreWarning, UsageError
from simcore.tasks import _predict
from simcore.tasks._head import Head
from simcore.tasks._predict import load_predictor, predict, save_predictions


@pytest.fixture
def head():
    return Head(
        weight=torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]),
        bias=torch.tensor([0.0, 0.5, 0.0]),
        classes=("cat", "dog", "owl"),
        encoder={"spec": "runs/a", "fingerprint": "f00"},
    )


FEATURES = [[3.0, 0.0], [0.0, 3.0], [-2.0, -2.0], [0.5, 0.0]]


def softmax(row):
    weights = np.exp([row[0], row[1] + 0.5, -row[0] - row[1]])
    return weights / weights.sum()


def test_each_image_gets_its_most_probable_class(head, store, monkeypatch):
    monkeypatch.setattr(_predict, "BLOCK_ROWS", 3)
    table = predict(head, None, store(FEATURES, ["x"] * 4))
    assert table.column_names == ["id", "class", "probability"]
    assert table["class"].to_pylist() == ["cat", "dog", "owl", "cat"]
    assert table["id"].to_pylist() == ["0", "1", "2", "3"]
    expected = [max(softmax(row)) for row in FEATURES]
    assert table["probability"].to_pylist() == pytest.approx(expected, rel=1e-6)


def test_several_classes_an_image_come_in_order(head, store):
    table = predict(head, None, store(FEATURES, ["x"] * 4), top=5)
    assert table.num_rows == 12
    assert table["rank"].to_pylist() == [1, 2, 3] * 4
    assert table["class"].to_pylist()[6:9] == ["owl", "dog", "cat"]
    sums = np.asarray(table["probability"]).reshape(4, 3).sum(1)
    assert sums == pytest.approx(np.ones(4))


def test_what_was_skipped_is_said(head, store):
    with pytest.warns(SimcoreWarning, match="2 images could not be read"):
        table = predict(head, None, store(FEATURES, ["x"] * 4, num_skipped=2))
    assert json.loads(table.schema.metadata[b"simcore"])["num_skipped"] == 2


def test_nothing_to_predict_gives_an_empty_table(head, store):
    table = predict(head, None, store(np.zeros((0, 2)), []))
    assert table.num_rows == 0
    assert table.column_names == ["id", "class", "probability"]


def test_another_encoder_is_refused(head, store):
    with pytest.raises(SimcoreError, match=r"runs/a \(f00\)"):
        predict(head, None, store(FEATURES, ["x"] * 4, encoder_fingerprint="other", encoder="runs/b"))
    with pytest.raises(UsageError):
        predict(head, None, store(FEATURES, ["x"] * 4), top=0)


def test_predictions_are_written_by_their_ending(head, store, tmp_path):
    table = predict(head, None, store(FEATURES, ["x"] * 4))
    save_predictions(table, tmp_path / "p.csv")
    save_predictions(table, tmp_path / "p.parquet")
    assert pq.read_table(tmp_path / "p.parquet").equals(table)
    read = pa_csv.read_csv(tmp_path / "p.csv", convert_options=pa_csv.ConvertOptions(column_types={"id": pa.string()}))
    assert read["class"].to_pylist() == table["class"].to_pylist()
    with pytest.raises(UsageError, match=r"\.csv or \.parquet"):
        save_predictions(table, tmp_path / "p.txt")


def test_a_head_on_plain_arrays_needs_to_be_told_its_encoder(head, tmp_path):
    Head(weight=head.weight, bias=head.bias, classes=head.classes).save(tmp_path / "head.safetensors")
    with pytest.raises(UsageError, match="--encoder"):
        load_predictor(tmp_path)
