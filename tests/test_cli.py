"""The command line as a stranger meets it: help, mistakes, exit codes, and what goes to stdout."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from simcore.cli import COMMANDS, main


@pytest.fixture
def stores(tmp_path):
    generator = np.random.default_rng(0)
    np.save(tmp_path / "target.npy", generator.normal(size=(8, 4)).astype(np.float32))
    np.save(tmp_path / "pool.npy", generator.normal(size=(50, 4)).astype(np.float32))
    return tmp_path


def select(stores, *more: str) -> int:
    words = ["--target", str(stores / "target.npy"), "--pool", str(stores / "pool.npy")]
    return main(["select", *words, "--out", str(stores / "s.parquet"), *more])


def one_line(capsys) -> str:
    err = capsys.readouterr().err.strip()
    assert err.count("\n") == 0, err
    assert "Traceback" not in err
    return err


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert all(f"  {command.name} " in out for command in COMMANDS)


@pytest.mark.parametrize("command", [c.name for c in COMMANDS])
def test_every_command_has_help_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"examples:\n  simcore {command}" in capsys.readouterr().out


def test_help_starts_without_torch():
    code = "import sys; from simcore.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    done = subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["selct"], "did you mean 'select'"),
        (["select", "--selector", "simcor", "--target", "a", "--pool", "b", "--out", "c"], "did you mean 'simcore'"),
        (["select", "--target", "a", "--pool", "b", "--out", "c", "--bugdet", "5"], "did you mean '--budget'"),
        (["select", "--target", "a", "--pool", "b"], "--out"),
        (["select", "--target", "a", "--pool", "b", "--out", "c", "--patience", "x"], "--patience"),
        (["embed", "photos"], "--encoder"),
        (["evaluate", "knn", "--train", "a", "--test", "b", "--out", "c"], "`simcore evaluate knn --help`"),
        (["pretrain", "--method", "mae", "--mask-rate", "0.5", "--out", "c"], "`simcore pretrain --method mae --help`"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(words, told, capsys):
    assert main(words) == 2
    assert told in one_line(capsys)


@pytest.mark.parametrize("budget", ["-1", "x", "5x", "-3%", "nan%"])
def test_a_budget_that_is_no_budget_is_wrong_usage(stores, budget, capsys):
    assert select(stores, f"--budget={budget}") == 2
    assert budget in one_line(capsys)
    assert not (stores / "s.parquet").exists()


def test_a_missing_store_is_named(stores, capsys):
    (stores / "pool.npy").unlink()
    assert select(stores, "--budget", "5") == 1
    assert "pool.npy" in one_line(capsys)
    assert not (stores / "s.parquet").exists()


def test_stores_of_different_dimension_are_refused(stores, capsys):
    np.save(stores / "pool.npy", np.ones((5, 3), np.float32))
    assert select(stores, "--budget", "5") == 1
    line = one_line(capsys)
    assert "3" in line
    assert "4" in line


def test_select_json_is_one_object_on_stdout(stores, capsys):
    assert select(stores, "--budget", "10", "--json") == 0
    out = capsys.readouterr().out
    assert json.loads(out)["num_selected"] == 10
    assert out.count("\n") == 1
    table = pq.read_table(stores / "s.parquet")
    assert table.column_names == ["rank", "index", "id", "uri", "round", "cluster", "similarity"]
    assert len(set(table["index"].to_pylist())) == 10


def test_a_budget_above_the_pool_is_clamped_and_said(stores, capsys):
    assert select(stores, "--budget", "80", "--json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["num_selected"] == 50
    assert "80" in said.err
    assert "50" in said.err


def test_a_budget_of_none_warns(stores, capsys):
    assert select(stores, "--budget", "0", "--json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["num_selected"] == 0
    assert said.err.startswith("warning: ")


def test_a_variable_gives_a_setting_its_default(stores, capsys, monkeypatch):
    monkeypatch.setenv("SIMCORE_SELECTOR", "random")
    monkeypatch.setenv("SIMCORE_SEED", "7")
    assert select(stores, "--budget", "5") == 0
    meta = json.loads(pq.read_schema(stores / "s.parquet").metadata[b"simcore"])
    assert meta["seed"] == 7


def test_a_source_without_encoder_says_what_to_give(stores, tmp_path, capsys):
    from PIL import Image

    (tmp_path / "photos").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "photos" / "a.png")
    words = ["--target", str(tmp_path / "photos"), "--pool", str(stores / "pool.npy"), "--out", str(tmp_path / "s")]
    assert main(["select", *words]) == 2
    assert "--encoder" in one_line(capsys)


def test_a_name_steers_no_terminal(tmp_path, capsys):
    from PIL import Image

    (tmp_path / "photos").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "photos" / "a.png")
    (tmp_path / "photos" / "\x1b]0;owned\x07\u202e.png").write_bytes(b"no picture")
    assert main(["inspect", str(tmp_path / "photos")]) == 0
    assert main(["inspect", str(tmp_path / "\x1b[31mgone")]) == 1
    said = "".join(capsys.readouterr())
    assert r"\x1b]0;owned\x07\u202e.png" in said
    assert r"\x1b[31mgone" in said
    assert not {"\x1b", "\x07", "\u202e"} & set(said)


def test_a_full_disk_is_one_line_wherever_it_is_met(stores, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "runs/log.jsonl")

    monkeypatch.setattr("simcore.pipeline.select", full)
    assert select(stores, "--budget", "5") == 1
    assert one_line(capsys) == "simcore: error: runs/log.jsonl cannot be written (No space left on device)"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--budget", "5x"], "budget '5x' is neither"),
        (["--selector", "random"], "random needs a budget: a number"),
        (["--selector", "density_ratio"], "density_ratio needs a budget"),
        (["--pool", "gone", "--budget", "5"], "gone: no such file or folder"),
        (["--encoder", "test_resnet", "--budget", "5"], "did you mean timm:test_resnet?"),
    ],
)
def test_what_select_cannot_do_is_told_before_anything_is_embedded(tmp_path, monkeypatch, words, told, capsys):
    for name in ("x", "u"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(tmp_path / name / "a.png")
    monkeypatch.chdir(tmp_path)
    line = ["select", "--target", "x", "--pool", "u", "--encoder", "timm:test_resnet@random", "--out", "s.parquet"]
    assert main([*line, *words]) in (1, 2)
    assert told in one_line(capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["u", "x"]


def test_a_train_set_without_labels_is_told_before_anything_is_embedded(tmp_path, monkeypatch, capsys):
    (tmp_path / "x").mkdir()
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(tmp_path / "x" / "a.png")
    monkeypatch.chdir(tmp_path)
    assert (
        main(["evaluate", "knn", "--encoder", "timm:test_resnet@random", "--train", "x", "--test", "x", "--out", "o"])
        == 1
    )
    assert "x: no train image has a label" in one_line(capsys)
