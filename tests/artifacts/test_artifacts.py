from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simcore.artifacts import Checkpoint, Embeddings, Report, Selection
from simcore.artifacts.embeddings import ROWS_SCHEMA
from simcore.artifacts.files import write_json
from simcore.errors import SimcoreError


def write_store(path, features: np.ndarray, **changes) -> None:
    path.mkdir()
    n = len(features)
    names = [f"{i}.png" for i in range(n)]
    label = pa.array([0, None, 1][:n], pa.int64())
    columns = [pa.array(range(n)), pa.array(names), pa.array(names), label, pa.array([4] * n), pa.array([5] * n)]
    columns = [column.cast(kind.type) for column, kind in zip(columns, ROWS_SCHEMA, strict=True)]
    pq.write_table(pa.Table.from_arrays(columns, schema=ROWS_SCHEMA), path / "rows.parquet")
    np.save(path / "features-00000.npy", features[:2].astype(np.float16))
    np.save(path / "features-00001.npy", features[2:].astype(np.float16))
    info = {"format": 1, "complete": True, "num_rows": n, "dim": features.shape[1], "classes": ["a", "b"]}
    info |= {"parts": ["features-00000.npy", "features-00001.npy"], "fingerprint": "f", "num_skipped": 4}
    write_json(path / "store.json", info | changes)


def test_a_store_loads_with_labels_and_classes(tmp_path):
    write_store(tmp_path / "s", np.arange(12.0).reshape(3, 4))
    store = Embeddings.load(tmp_path / "s")
    assert (len(store), store.dim, store.num_skipped, store.fingerprint) == (3, 4, 4, "f")
    assert store.labels.tolist() == [0, -1, 1]
    assert np.array_equal(np.asarray(store.features), np.arange(12.0).reshape(3, 4))


@pytest.mark.parametrize("changes", [{"complete": False}, {"num_rows": 4}, {"dim": 5}, {"format": 99}])
def test_a_store_that_is_unfinished_or_does_not_add_up_is_refused(tmp_path, changes):
    write_store(tmp_path / "s", np.zeros((3, 4)), **changes)
    with pytest.raises(SimcoreError, match="s"):
        Embeddings.load(tmp_path / "s")


def test_json_without_end_is_a_damaged_store(tmp_path):
    write_store(tmp_path / "s", np.zeros((3, 4)))
    (tmp_path / "s" / "store.json").write_text("[" * 100_000)
    with pytest.raises(SimcoreError, match=r"store.json: not a readable JSON file"):
        Embeddings.load(tmp_path / "s")


@pytest.mark.parametrize("text", ["a: !!python/object/apply:os.getcwd []", "a: [b\nc", "[" * 5_000, "a: \x00"])
def test_a_config_that_is_no_plain_yaml_is_one_line_of_error(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(SimcoreError, match=r"config.yaml: not readable") as caught:
        Checkpoint.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_npy_matrix_is_a_store_and_other_arrays_are_named(tmp_path):
    np.save(tmp_path / "ok.npy", np.eye(3, dtype=np.float32))
    assert Embeddings.load(tmp_path / "ok.npy").table["id"].to_pylist() == ["0", "1", "2"]
    np.save(tmp_path / "flat.npy", np.zeros(3))
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "ok.npy").read_bytes()[:90])
    for name in ("flat", "objects", "cut", "gone"):
        with pytest.raises(SimcoreError, match=f"{name}.npy"):
            Embeddings.load(tmp_path / f"{name}.npy")


def make_selection(**changes) -> Selection:
    fields = {
        "indices": np.array([5, 2, 9]),
        "rounds": np.array([1, 1, 2], np.int32),
        "clusters": np.array([0, 1, 0], np.int32),
        "similarities": np.array([0.9, 0.8, np.nan], np.float32),
        "stop_reason": "budget",
        "objective": (0.85, 0.7),
        "ids": ("a", "b", "c"),
        "uris": ("/x/a", "/x/b", "/x/c"),
        "labels": np.array([1, -1, 0]),
        "classes": ("cat", "dog"),
        "settings": {"selector": "simcore", "seed": 3},
        "parents": {"target": "t", "pool": "p"},
    }
    return Selection(**(fields | changes))


def test_a_selection_round_trip_keeps_everything(tmp_path):
    chosen = make_selection()
    chosen.save(tmp_path / "s.parquet")
    again = Selection.load(tmp_path / "s.parquet")
    for name in ("indices", "rounds", "clusters", "labels"):
        assert np.array_equal(getattr(again, name), getattr(chosen, name)), name
    assert np.array_equal(again.similarities, chosen.similarities, equal_nan=True)
    for name in ("ids", "uris", "classes", "objective", "stop_reason", "settings", "parents", "fingerprint"):
        assert getattr(again, name) == getattr(chosen, name), name


def test_a_selection_file_has_the_columns_and_the_metadata_of_the_contract(tmp_path):
    make_selection().save(tmp_path / "s.parquet")
    table = pq.read_table(tmp_path / "s.parquet")
    assert table.column_names == ["rank", "index", "id", "uri", "round", "cluster", "similarity", "label"]
    assert table["label"].to_pylist() == [1, None, 0]
    assert table["similarity"].null_count == 1
    meta = json.loads(table.schema.metadata[b"simcore"])
    assert (meta["stop_reason"], meta["seed"], meta["objective"]) == ("budget", 3, [0.85, 0.7])
    make_selection(labels=None).save(tmp_path / "u.parquet")
    assert "label" not in pq.read_schema(tmp_path / "u.parquet").names


def test_equal_selections_are_equal_bytes(tmp_path):
    make_selection().save(tmp_path / "a.parquet")
    make_selection().save(tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_a_foreign_parquet_file_is_not_a_selection(tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "x.parquet")
    (tmp_path / "y.parquet").write_bytes(b"PAR1")
    for name in ("x", "y", "gone"):
        with pytest.raises(SimcoreError, match=f"{name}.parquet"):
            Selection.load(tmp_path / f"{name}.parquet")


def test_a_prefix_is_the_selection_at_a_smaller_budget():
    part = make_selection().prefix(2)
    assert part.indices.tolist() == [5, 2]
    assert part.ids == ("a", "b")
    assert part.labels.tolist() == [1, -1]


def test_a_checkpoint_needs_a_config_that_names_its_backbone(tmp_path):
    run = Checkpoint(path=tmp_path / "run", config={"backbone": "resnet10", "image_size": 32})
    run.save()
    again = Checkpoint.load(tmp_path / "run")
    assert again.config == run.config
    assert not again.finished
    (tmp_path / "run" / "config.yaml").write_text("[1, 2]")
    with pytest.raises(SimcoreError, match=r"config\.yaml"):
        Checkpoint.load(tmp_path / "run")
    with pytest.raises(SimcoreError, match="not a RUN"):
        Checkpoint.load(tmp_path)


def test_a_report_round_trip(tmp_path):
    report = Report(task="knn", metrics={"top1": 50.0}, details={"absent": ["b"]}, parents={"encoder": "e"})
    report.save(tmp_path / "metrics.json")
    assert Report.load(tmp_path) == report
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(SimcoreError, match="not a metrics file"):
        Report.load(tmp_path)
