"""Coresets that a run chooses itself, from the command line to the folder of the run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from simcore import pipeline, registry
from simcore.artifacts import Checkpoint, Selection
from simcore.cli import main
from simcore.embedding import load_encoder
from simcore.images import open_images
from simcore.methods.simclr import SimCLR
from simcore.resampling import Resampling, chosen_by
from simcore.training.interrupts import Stopped

TRAINING = [
    *("--backbone", "test_resnet", "--image-size", "16", "--epochs", "4", "--batch-size", "6", "--save-every", "1"),
    *("--num-workers", "0", "--device", "cpu", "--no-tensorboard", "--lr", "0.05", "--log-every", "1", "--quiet"),
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A target of one colour, and a pool of many, as 16 px images."""
    generator = np.random.default_rng(0)
    for name, count in (("x", 6), ("u", 24)):
        (tmp_path / name).mkdir()
        for i in range(count):
            tint = (200, 60, 60) if name == "x" else generator.integers(0, 255, 3)
            pixels = np.clip(generator.normal(tint, 40, (16, 16, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i:02}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pretrain(out: str, *more: str) -> int:
    return main(["pretrain", "--target", "x", "--pool", "u", "--out", out, *TRAINING, *more])


def anew(out: str, *more: str) -> int:
    chooser = ["--selector", "simcore", "--num-clusters", "2", "--budget", "5", "--encoder", "timm:test_resnet@random"]
    return pretrain(out, *chooser, "--sampling-times", "3", *more)


def picks(folder, out: str) -> list[list[int]]:
    return [Selection.load(file).indices.tolist() for file in sorted((folder / out).glob("coreset-*.parquet"))]


def test_a_run_chooses_its_coresets_with_its_own_encoder_of_then(folder, capsys):
    assert anew("run", "--json") == 0
    run = Checkpoint.load(folder / "run")
    assert json.loads(capsys.readouterr().out)["run"] == "run"
    assert run.finished
    files = [f"coreset-00{number}.parquet" for number in (1, 2, 3)]
    assert sorted(file.name for file in run.path.glob("*.parquet")) == files
    told = run.config["sampling"]
    assert (told["selector"], told["budget"], told["coresets"]) == ("simcore", "5", files)
    assert told["selector_settings"]["num_clusters"] == 2
    assert told["data"] == {"pool": {"name": "u", "num_images": 24, "undated": open_images("u").undated}}
    epochs = [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]
    assert [line["coreset"] for line in epochs if line["event"] == "epoch"] == [1, 2, 3, 3]
    chosen = picks(folder, "run")
    assert all(len(set(rows)) == 5 for rows in chosen)
    parents = [Selection.load(run.path / file).parents["pool"] for file in files]
    assert len(set(parents)) == 3  # three encoders: the one named, and two of the run


def test_the_second_coreset_is_what_select_chooses_with_the_run_s_weights_of_then(folder):
    """A run of the epochs before the second choice, with the same course, ends with the encoder that made it."""
    assert anew("run", "--schedule", "constant") == 0
    early = [*TRAINING, "--schedule", "constant"]
    early[early.index("--epochs") + 1] = "1"
    assert main(["pretrain", "--target", "x", "--coreset", "run/coreset-001.parquet", "--out", "early", *early]) == 0
    selector = registry.find("selection", "simcore")(num_clusters=2)
    wanted = pipeline.select("x", "u", selector=selector, budget=5, encoder="early", num_workers=0, quiet=True)
    assert wanted.indices.tolist() == picks(folder, "run")[1]


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("forget", [False, True])
def test_a_resumed_run_ends_as_an_undisturbed_one(folder, monkeypatch, forget, moved):
    """Stopped after the last choice; its file may be lost, too: the same is chosen again."""
    assert anew("whole") == 0
    choose = Resampling.__call__

    def stopping(self, backbone, number):
        chosen = choose(self, backbone, number)
        if number == 3:
            raise Stopped("asked to stop")
        return chosen

    monkeypatch.setattr(Resampling, "__call__", stopping)
    assert anew("cut") == 1
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    if forget:
        (folder / "cut" / "coreset-003.parquet").unlink()
        shutil.rmtree(folder / "cut" / "stores")
    if moved:
        for number, file in enumerate([*Path("x").iterdir(), *Path("u").iterdir()]):
            os.utime(file, ns=(number, number))
        assert anew("cut", "--resume") == 1
    assert anew("cut", "--resume", *(["--moved"] if moved else [])) == 0
    assert picks(folder, "cut") == picks(folder, "whole")
    names = ("whole", "cut")
    assert len({(folder / name / "backbone.safetensors").read_bytes() for name in names}) == 1


def test_a_given_coreset_is_the_first_and_says_how_the_others_are_chosen(folder):
    selector = registry.find("selection", "top")(num_clusters=2, num_near=3)
    pipeline.select("x", "u", selector=selector, budget=7, out="s.parquet", encoder="timm:test_resnet@random",
                    num_workers=0, quiet=True)  # fmt: skip
    assert pretrain("run", "--coreset", "s.parquet", "--sampling-times", "2") == 0
    first, second = picks(folder, "run")
    assert first == Selection.load("s.parquet").indices.tolist()
    assert len(second) == 7
    told = yaml.safe_load((folder / "run" / "config.yaml").read_text())["sampling"]
    assert (told["selector"], told["budget"], told["selector_settings"]["num_near"]) == ("top", 7, 3)


def test_a_run_with_another_way_of_choosing_does_not_go_on(folder, capsys):
    assert anew("run") == 0
    assert anew("run", "--resume") == 0  # finished: nothing to do
    assert anew("run", "--resume", "--num-restarts", "3") == 1
    assert "sampling.selector_settings.num_restarts" in capsys.readouterr().err
    assert anew("run") == 1
    assert "--resume" in capsys.readouterr().err


def test_a_kept_coreset_of_another_beginning_is_not_taken(folder):
    assert anew("run") == 0
    shutil.copytree(folder / "run", folder / "other")
    for name in ("config.yaml", "last.ckpt", "previous.ckpt", "backbone.safetensors", "log.jsonl"):
        (folder / "other" / name).unlink(missing_ok=True)
    before = picks(folder, "other")[0]
    resampling = Resampling(
        target=open_images("x"), pool=open_images("u"), selector=registry.find("selection", "random")(), budget=5,
        out=folder / "other", embed={"num_workers": 0, "quiet": True},
    )  # fmt: skip
    resampling.begin_with("timm:test_resnet@random")
    assert picks(folder, "other")[0] != before


def test_max_steps_spread_the_choices_too(folder):
    assert anew("run", "--max-steps", "6") == 0  # 6 + 5 images in batches of 6: 2 steps an epoch
    epochs = [json.loads(line) for line in (folder / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["coreset"] for line in epochs if line["event"] == "epoch"] == [1, 2, 3]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--selector", "simcore", "--budget", "5"], "the first coreset: give --coreset, or --encoder"),
        (["--sampling-times", "2", "--encoder", "e"], "name a --selector"),
        (["--coreset", "s.parquet", "--selector", "simcore"], "--sampling-times is 1"),
        (["--coreset", "s.parquet"], "not both"),
        (["--budget", "5"], "name a --selector"),
        (["--selector", "simcor", "--sampling-times", "2"], "did you mean 'simcore'"),
    ],
)
def test_flags_that_do_not_fit_together_are_told_before_anything_is_done(folder, more, told, capsys):
    assert pretrain("run", *more) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1
    assert not (folder / "run").exists()


def test_variables_meant_for_other_commands_make_no_run_choose(folder, monkeypatch):
    for variable, text in {"SELECTOR": "random", "BUDGET": "5", "ENCODER": "runs/retrieval"}.items():
        monkeypatch.setenv(f"SIMCORE_{variable}", text)
    assert pretrain("run") == 0
    assert "sampling" not in Checkpoint.load(folder / "run").config
    assert pretrain("other", "--budget", "6") == 2


@pytest.mark.parametrize("length", [["--epochs", "2"], ["--max-steps", "3"]])
def test_more_choices_than_epochs_are_refused(folder, length, capsys):
    assert anew("run", *length) == 2
    assert "--sampling-times is 3, but the run has only 2 epochs" in capsys.readouterr().err


def test_how_a_coreset_was_chosen_is_read_from_it(folder):
    selector = registry.find("selection", "oracle")(classes=("a", "b"), seed=3)
    coreset = Selection(
        indices=np.arange(2), rounds=np.zeros(2, np.int32), clusters=np.zeros(2, np.int32),
        similarities=np.zeros(2, np.float32), stop_reason="budget",
        settings={"selector": "oracle", "classes": ["a", "b"], "seed": 3, "budget": "5%", "stop": {}},
    )  # fmt: skip
    assert chosen_by(coreset) == (selector, "5%")


def test_from_python_the_run_takes_the_same_chooser(folder):
    resampling = Resampling(
        target=open_images("x"), pool=open_images("u"), selector=registry.find("selection", "random")(seed=1), budget=4,
        out=folder / "run", embed={"num_workers": 0, "quiet": True},
    )  # fmt: skip
    first = resampling.begin_with("timm:test_resnet@random")
    run = pipeline.pretrain(
        SimCLR(), "x", first, backbone="test_resnet", out="run", quiet=True, resample=resampling, epochs=2,
        image_size=16, batch_size=6, num_workers=0, sampling_times=2, tensorboard=False,
    )  # fmt: skip
    assert len(picks(folder, "run")) == 2
    assert load_encoder(run).image_size == 16


@pytest.mark.slow
def test_two_processes_share_the_embedding_and_train_on_the_same_coresets(folder):
    """Their batch statistics differ; the encoder that chooses is the first process's."""
    words = ["pretrain", "--target", "x", "--pool", "u", "--out", "run", *TRAINING, "--selector", "simcore"]
    words += ["--num-clusters", "2", "--budget", "6", "--encoder", "timm:test_resnet@random", "--sampling-times", "3"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "simcore"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*torchrun, *words], capture_output=True, text=True, timeout=300, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert [len(set(rows)) for rows in picks(folder, "run")] == [6, 6, 6]
    assert Checkpoint.load(folder / "run").finished
