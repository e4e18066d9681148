from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from simcore.artifacts.files import fingerprint, read_json, write_json, written_aside
from simcore.errors import SimcoreError


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), written_aside(path) as aside:
        aside.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_is_one_clear_line(tmp_path):
    with pytest.raises(SimcoreError, match="cannot be written"), written_aside(tmp_path / "a") as aside:
        raise OSError(28, "No space left on device", str(aside))


def save_torch(path, tensor):
    with path.open("wb") as file:
        torch.save({"a": tensor}, file)


def save_safely(path, tensor):
    save_file({"a": tensor}, path)


def save_table(path, tensor):
    pq.write_table(pa.table({"a": tensor.numpy()}), path, compression="none", use_dictionary=False)


@pytest.mark.parametrize("save", [save_torch, save_safely, save_table])
def test_a_full_disk_is_one_clear_line_whoever_writes(tmp_path, save, small_files):
    said = r"a: cannot be written \(.*File too large.*\)"
    with pytest.raises(SimcoreError, match=said), small_files(), written_aside(tmp_path / "a") as aside:
        save(aside, torch.arange(100_000))
    assert list(tmp_path.iterdir()) == []


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(ValueError, match="no number"), written_aside(tmp_path / "a"):
        raise ValueError("no number")
    with pytest.raises(SimcoreError, match=r"^as it was$"), written_aside(tmp_path / "a"):
        raise SimcoreError("as it was") from OSError(28, "No space left on device")


def test_json_round_trip_and_refusal_of_nan(tmp_path):
    write_json(tmp_path / "sub" / "a.json", {"b": ["ü", 1.5]})
    assert read_json(tmp_path / "sub" / "a.json") == {"b": ["ü", 1.5]}
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "b.json", {"x": float("nan")})
    assert not (tmp_path / "b.json").exists()


@pytest.mark.parametrize("content", ["", "{", "\xff"])
def test_a_damaged_json_file_is_named(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(SimcoreError, match=r"a\.json"):
        read_json(tmp_path / "a.json")


def test_fingerprints_tell_shape_type_order_and_parts_apart():
    a = np.arange(6, dtype=np.float32)
    prints = [
        fingerprint(a),
        fingerprint(a.reshape(2, 3)),
        fingerprint(a.astype(np.float16)),
        fingerprint(a[::-1]),
        fingerprint("ab", "c"),
        fingerprint("a", "bc"),
        fingerprint({"x": 1}),
        fingerprint({"x": 2}),
    ]
    assert len(set(prints)) == len(prints)
    assert fingerprint({"x": 1, "y": 2}) == fingerprint({"y": 2, "x": 1})
