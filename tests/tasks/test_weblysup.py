"""Learning from noisy labels, end to end on images of a few pixels."""

from __future__ import annotations

import json
import os
import signal

import numpy as np
import pytest

from simcore.cli import main
from simcore.embedding import Embedder
from simcore.errors import SimcoreError, SimcoreWarning, UsageError
from simcore.images import open_images
from simcore.tasks._predict import load_predictor, predict
from simcore.tasks.weblysup import WeblySupervised
from simcore.training.interrupts import Stopped

SMALL = {"epochs": 3, "batch_size": 8, "num_workers": 0, "device": "cpu", "lr": 0.05}
DIVIDE = {"warm_up_epochs": 1, "num_gradual": 2, "ramp_epochs": 1}
METHODS = pytest.mark.parametrize("method", ["coteaching", "dividemix", "plain"])


@pytest.fixture(scope="module")
def folders(tmp_path_factory, write_colours):
    root = tmp_path_factory.mktemp("webly")
    write_colours(root / "train", 8, 0)
    write_colours(root / "test", 4, 1)
    write_colours(root / "web", 5, 2, ["red", "blue", "white"])
    return root


@pytest.fixture(scope="module")
def sources(folders):
    return open_images(folders / "train"), open_images(folders / "test")


@METHODS
def test_every_method_leaves_a_run_whose_head_predicts(method, encoder, sources, tmp_path):
    task = WeblySupervised(method=method, label_noise=0.25, **SMALL, **DIVIDE)
    report = task.run(encoder, *sources, out=tmp_path, quiet=True)
    assert report.details["num_labels_made_wrong"] == 6
    assert len(report.details["held_clean"]) == (1 if method == "plain" else 2)
    assert ("top1_ensemble" in report.metrics) == (method != "plain")
    head, tuned = load_predictor(tmp_path, device="cpu")
    assert head.fingerprint == report.parents["head"]
    table = predict(head, Embedder(tuned, num_workers=0, dtype="float32", quiet=True), sources[1])
    pairs = zip(table["class"].to_pylist(), table["id"].to_pylist(), strict=True)
    assert 100 * np.mean([name == id.split("/")[0] for name, id in pairs]) == pytest.approx(report.metrics["top1"])


@METHODS
def test_a_stopped_run_goes_on_to_the_same_end(method, encoder, sources, tmp_path, monkeypatch):
    task = WeblySupervised(method=method, label_noise=0.25, **SMALL, **DIVIDE)
    whole = task.run(encoder, *sources, out=tmp_path / "whole", quiet=True)
    steps = []

    def stop_at(moment):
        steps.append(moment)
        if len(steps) == 5:  # within the second epoch
            os.kill(os.getpid(), signal.SIGTERM)

    from simcore.tasks._two_networks import NoisyModel

    with monkeypatch.context() as patch:
        patch.setattr(NoisyModel, "after_step", lambda self, moment: stop_at(moment), raising=False)
        with pytest.raises(Stopped):
            task.run(encoder, *sources, out=tmp_path / "cut", quiet=True)
    again = task.run(encoder, *sources, out=tmp_path / "cut", quiet=True)
    assert again.metrics == whole.metrics
    assert again.parents == whole.parents
    assert again.details == whole.details


def test_plain_training_on_clean_labels_learns_the_colours(encoder, sources):
    task = WeblySupervised(method="plain", **SMALL | {"epochs": 8})
    assert task.run(encoder, *sources, quiet=True).metrics["top1"] > 60


def test_web_images_join_by_class_name_and_unknown_classes_are_told(encoder, folders, sources):
    task = WeblySupervised(web=str(folders / "web"), **SMALL)
    with pytest.warns(SimcoreWarning, match="5 images have no class of the train set"):
        report = task.run(encoder, *sources, quiet=True)
    assert report.details["num_web"] == 10
    assert report.details["num_web_unknown"] == 5
    assert report.details["labels_per_class"] == {"blue": 13, "green": 8, "red": 13}
    assert "web" in report.parents


def test_test_images_among_the_web_images_are_left_out(encoder, folders, sources):
    task = WeblySupervised(web=str(folders / "test"), **SMALL)
    with pytest.warns(SimcoreWarning, match="12 of its images are test images"), pytest.raises(UsageError):
        task.run(encoder, *sources, quiet=True)


@pytest.mark.parametrize(
    ("settings", "flag"),
    [
        ({"label_noise": 1.0}, "--label-noise"),
        ({"label_noise": -0.1}, "--label-noise"),
        ({"forget_rate": 1.2}, "--forget-rate"),
        ({"num_gradual": 0}, "--num-gradual"),
        ({"temperature": 0.0}, "--temperature"),
        ({"clean_threshold": 1.0}, "--clean-threshold"),
        ({"method": "dividemix", "epochs": 30}, "--warm-up-epochs"),
        ({"method": "guess"}, "--method"),
        ({"batch_size": 1}, "--batch-size"),
        ({"epochs": 0}, "--epochs"),
    ],
)
def test_settings_out_of_range_are_refused(settings, flag):
    with pytest.raises(UsageError, match=flag):
        WeblySupervised(**settings)


def test_from_the_command_line(folders, tmp_path, capsys):
    argv = ["evaluate", "weblysup", "--encoder", "timm:test_resnet@random", "--image-size", "16"]
    argv += ["--train", str(folders / "train"), "--test", str(folders / "test"), "--out", str(tmp_path / "out")]
    argv += ["--method", "dividemix", "--warm-up-epochs", "1", "--epochs", "2", "--batch-size", "8"]
    argv += ["--label-noise", "0.25", "--num-workers", "0", "--device", "cpu", "--json", "--quiet"]
    assert main(argv) == 0
    assert "top1_ensemble" in json.loads(capsys.readouterr().out)
    assert (tmp_path / "out" / "head.safetensors").is_file()
    assert main([*argv, "--label-noise", "2"]) == 2
    assert "--label-noise is 2" in capsys.readouterr().err


def test_images_that_cannot_be_read_are_counted_and_never_believed(encoder, folders, tmp_path, write_colours):
    write_colours(tmp_path / "train", 5, 3)
    for name in ("1.png", "2.png"):
        (tmp_path / "train" / "red" / name).write_bytes(b"\x89PNG cut off")
    task = WeblySupervised(method="dividemix", **SMALL, **DIVIDE)
    report = task.run(encoder, open_images(tmp_path / "train"), open_images(folders / "test"), quiet=True)
    assert report.details["num_train_skipped"] == 2
    assert all(held["images"] <= 13 for held in report.details["held_clean"])


def test_one_class_cannot_be_made_noisy(encoder, folders):
    images = open_images(f"{folders / 'train'}#classes=red")
    with pytest.raises(SimcoreError, match="two classes"):
        WeblySupervised(label_noise=0.5, **SMALL).run(encoder, images, images, quiet=True)
