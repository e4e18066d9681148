"""Active learning, end to end on images of a few pixels."""

from __future__ import annotations

import csv
import dataclasses
import json

import numpy as np
import pyarrow as pa
import pytest

from simcore.cli import main
from simcore.embedding import Embedder
from simcore.errors import UsageError
from simcore.images import open_images
from simcore.tasks import _active_learners
from simcore.tasks._predict import load_predictor, predict
from simcore.tasks.active import ACQUISITIONS, ActiveLearning

SMALL = {"epochs": 2, "rounds": 3, "budget": "4", "batch_size": 8, "num_workers": 0, "device": "cpu", "lr": 0.05}
TUNE = pytest.mark.parametrize("tune", [True, False], ids=["tuned", "frozen"])


@pytest.fixture(scope="module")
def folders(tmp_path_factory, write_colours):
    root = tmp_path_factory.mktemp("active")
    write_colours(root / "train", 8, 0)
    write_colours(root / "test", 4, 1)
    return root


@pytest.fixture(scope="module")
def sources(folders):
    return open_images(folders / "train"), open_images(folders / "test")


@TUNE
@pytest.mark.parametrize("name", ACQUISITIONS)
def test_every_acquisition_leaves_rounds_picks_and_a_head_that_predicts(name, tune, encoder, sources, tmp_path):
    report = ActiveLearning(acquisition=name, tune=tune, **SMALL).run(encoder, *sources, out=tmp_path, quiet=True)
    rounds = report.details["rounds"]
    assert [r["num_labels"] for r in rounds] == [4, 8, 12]
    ids = [name for r in rounds for name in r["ids"]]
    assert len(set(ids)) == 12
    assert report.metrics["top1"] == rounds[-1]["metrics"]["top1"]
    assert report.metrics["mean_top1"] == pytest.approx(np.mean([r["metrics"]["top1"] for r in rounds]))
    with (tmp_path / "picks.csv").open() as lines:
        picks = list(csv.DictReader(lines))
    assert [pick["id"] for pick in picks] == ids
    assert all(pick["id"].startswith(pick["class"] + "/") for pick in picks)
    head, model = load_predictor(tmp_path, encoder=None if tune else "timm:test_resnet@random", device="cpu")
    table = predict(head, Embedder(model, num_workers=0, dtype="float32", quiet=True), sources[1])
    pairs = zip(table["class"].to_pylist(), table["id"].to_pylist(), strict=True)
    assert 100 * np.mean([name == id.split("/")[0] for name, id in pairs]) == pytest.approx(report.metrics["top1"])


@TUNE
def test_the_first_round_is_the_same_for_every_acquisition(tune, encoder, sources):
    settings = {**SMALL, "rounds": 1}
    reports = [ActiveLearning(acquisition=name, tune=tune, **settings).run(encoder, *sources) for name in ACQUISITIONS]
    assert all(report.details["rounds"] == reports[0].details["rounds"] for report in reports)
    other = ActiveLearning(tune=tune, seed=1, **settings).run(encoder, *sources)
    assert other.details["rounds"][0]["ids"] != reports[0].details["rounds"][0]["ids"]


@TUNE
def test_a_cut_off_run_goes_on_with_its_round(tune, encoder, sources, tmp_path, monkeypatch):
    task = ActiveLearning(tune=tune, **SMALL)
    whole = task.run(encoder, *sources, out=tmp_path / "whole", quiet=True)
    cls = _active_learners.Tuner if tune else _active_learners.Prober
    train, asked = cls.train, []

    def train_until(self, number, rows, state):
        asked.append(number)
        if number == 2 and len(asked) == 3:
            raise KeyboardInterrupt
        return train(self, number, rows, state)

    monkeypatch.setattr(cls, "train", train_until)
    with pytest.raises(KeyboardInterrupt):
        task.run(encoder, *sources, out=tmp_path / "cut", quiet=True)
    asked.append("again")
    again = task.run(encoder, *sources, out=tmp_path / "cut", quiet=True)
    assert again.details == whole.details
    assert again.parents == whole.parents
    assert 0 not in asked[asked.index("again") :]
    finished = task.run(encoder, *sources, out=tmp_path / "cut", quiet=True)
    assert finished.parents == whole.parents


def test_labels_that_are_not_bought_are_never_looked_at(encoder, sources):
    train, test = sources
    honest = ActiveLearning(**SMALL).run(encoder, train, test, quiet=True)
    bought = {name for r in honest.details["rounds"] for name in r["ids"]}
    labels = np.array(
        [
            label if name in bought else (label + 1) % 3
            for label, name in zip(train.labels, train.table["id"].to_pylist(), strict=True)
        ]
    )
    lying = dataclasses.replace(train, listing=train.listing.set_column(2, "label", pa.array(labels)))
    told = ActiveLearning(**SMALL).run(encoder, lying, test, quiet=True)
    assert told.details["rounds"] == honest.details["rounds"]


def test_more_labels_learn_more(encoder, sources):
    task = ActiveLearning(**SMALL | {"epochs": 12, "budget": "8", "acquisition": "random"})
    curve = [r["metrics"]["top1"] for r in task.run(encoder, *sources, quiet=True).details["rounds"]]
    assert curve[-1] > 60


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"rounds": 0}, "--rounds is 0"),
        ({"budget": "many"}, "budget 'many'"),
        ({"first_budget": "200%"}, "budget '200%'"),
        ({"acquisition": "best"}, "--acquisition"),
        ({"epochs": 0}, "--epochs"),
    ],
)
def test_settings_out_of_range_are_refused(settings, text):
    with pytest.raises(UsageError, match=text):
        ActiveLearning(**settings)


@pytest.mark.parametrize(("budget", "text"), [("9", "27 labels, but there are 24"), ("0", "would buy no label")])
def test_budgets_that_the_images_cannot_meet_are_refused(budget, text, encoder, sources):
    with pytest.raises(UsageError, match=text):
        ActiveLearning(**{**SMALL, "budget": budget}).run(encoder, *sources, quiet=True)


def test_shares_are_of_the_labelled_train_images():
    assert ActiveLearning(budget="10%", first_budget="20%", rounds=3).budgets(100) == [20, 10, 10]
    assert ActiveLearning(budget="1%", rounds=2).budgets(100) == [2, 2]


def test_unreadable_images_are_not_chosen_by_what_is_seen_of_them(encoder, folders, tmp_path, write_colours):
    write_colours(tmp_path / "train", 6, 3)
    (tmp_path / "train" / "red" / "0.png").write_bytes(b"\x89PNG cut off")
    train, test = open_images(tmp_path / "train"), open_images(folders / "test")
    for tune in (True, False):
        report = ActiveLearning(acquisition="coreset", tune=tune, **SMALL).run(encoder, train, test, quiet=True)
        later = [name for r in report.details["rounds"][1:] for name in r["ids"]]
        assert "red/0.png" not in later


def test_from_the_command_line(folders, tmp_path, capsys):
    argv = ["evaluate", "active", "--encoder", "timm:test_resnet@random", "--image-size", "16"]
    argv += ["--train", str(folders / "train"), "--test", str(folders / "test"), "--out", str(tmp_path / "out")]
    argv += ["--acquisition", "entropy", "--rounds", "2", "--budget", "25%", "--epochs", "2", "--batch-size", "8"]
    argv += ["--num-workers", "0", "--device", "cpu", "--json", "--quiet"]
    assert main(argv) == 0
    assert "mean_top1" in json.loads(capsys.readouterr().out)
    assert main([*argv, "--rounds", "0"]) == 2
    assert "--rounds is 0" in capsys.readouterr().err
    assert main([*argv, "--budget", "90%"]) == 2
    assert "but there are 24 images" in capsys.readouterr().err
