"""Learning with unlabelled images, end to end on images of a few pixels."""

from __future__ import annotations

import dataclasses
import json
import os
import signal

import numpy as np
import pyarrow as pa
import pytest
import torch

from simcore.cli import main
from simcore.embedding import Embedder
from simcore.errors import SimcoreError, SimcoreWarning, UsageError
from simcore.images import ImageFault, open_images
from simcore.pipeline import evaluate
from simcore.selection.random import Random
from simcore.tasks._predict import load_predictor, predict
from simcore.tasks._semi_problem import Problem
from simcore.tasks._unlabelled import unlabelled_images
from simcore.tasks.finetune import FineTune
from simcore.tasks.opensemi import OpenSemi
from simcore.tasks.semisup import SemiSupervised
from simcore.training import Moment, make_fabric
from simcore.training.interrupts import Stopped

SMALL = {"epochs": 2, "steps_per_epoch": 3, "batch_size": 8, "num_workers": 0, "device": "cpu"}
SEMI = [(SemiSupervised, name, {}) for name in ("mixmatch", "remixmatch", "fixmatch", "flexmatch")]
OPEN = [(OpenSemi, "self_training", {"teacher_epochs": 2}), (OpenSemi, "openmatch", {"start_epoch": 1})]
METHODS = pytest.mark.parametrize(("cls", "method", "more"), SEMI + OPEN, ids=lambda part: str(part)[:40])


@pytest.fixture(scope="module")
def folders(tmp_path_factory, write_colours):
    root = tmp_path_factory.mktemp("semi")
    write_colours(root / "train", 8, 0)
    write_colours(root / "test", 4, 1)
    write_colours(root / "foreign", 5, 2, ["white", "black"])
    return root


@pytest.fixture(scope="module")
def sources(folders):
    return open_images(folders / "train"), open_images(folders / "test")


@METHODS
def test_every_method_leaves_a_run_whose_head_predicts(cls, method, more, encoder, sources, tmp_path):
    task = cls(method=method, label_ratio=0.25, **SMALL, **more)
    report = task.run(encoder, *sources, out=tmp_path, quiet=True)
    assert report.details["num_labels"] == 6
    assert report.details["num_unlabelled"] == 18
    assert report.details["num_unlabelled_added"] == 0
    head, tuned = load_predictor(tmp_path, device="cpu")
    assert head.fingerprint == report.parents["head"]
    table = predict(head, Embedder(tuned, num_workers=0, dtype="float32", quiet=True), sources[1])
    pairs = zip(table["class"].to_pylist(), table["id"].to_pylist(), strict=True)
    assert 100 * np.mean([name == id.split("/")[0] for name, id in pairs]) == pytest.approx(report.metrics["top1"])


@METHODS
def test_labels_of_unlabelled_images_are_never_looked_at(cls, method, more, encoder, sources):
    train, test = sources
    task = cls(method=method, label_ratio=0.25, **SMALL, **more)
    honest = task.run(encoder, train, test, quiet=True)
    rows = FineTune(label_ratio=0.25).labelled_rows(train.labels)
    rest = np.setdiff1d(np.arange(len(train)), rows)
    swapped = _relabelled(train, rest)
    kept = _relabelled(train, rest, keep=True)
    # The same labelled images with the rest given without truth, then with false labels, as a further source.
    told = [
        cls(method=method, label_ratio=1.0, **SMALL, **more).run(
            encoder, train.take(rows), test, unlabelled=part, quiet=True
        )
        for part in (swapped, kept)
    ]
    assert told[0].parents["head"] == told[1].parents["head"] == honest.parents["head"]


def _relabelled(images, rows, *, keep=False):
    part = images.take(rows)
    labels = part.labels if keep else np.roll(part.labels, 5)
    return dataclasses.replace(part, listing=part.listing.set_column(2, "label", pa.array(labels, pa.int64())))


def states(place):
    (found,) = (path for path in (place / "training").glob("*/last.ckpt"))
    return torch.load(found, weights_only=True)


@pytest.mark.parametrize(
    ("task", "kill"),
    [
        (OpenSemi(method="openmatch", start_epoch=1, ema_decay=0.9, **SMALL), 5),
        (SemiSupervised(method="flexmatch", align=True, threshold=0.4, **SMALL), 2),
        (OpenSemi(method="self_training", teacher_epochs=1, **SMALL), 4),
    ],
    ids=["openmatch", "flexmatch", "self_training"],
)
def test_a_run_cut_within_an_epoch_ends_as_an_uninterrupted_one(task, kill, encoder, sources, tmp_path, monkeypatch):
    whole = task.run(encoder, *sources, out=tmp_path / "whole", quiet=True)
    step, steps = torch.optim.SGD.step, []

    def step_and_stop(self, *args, **kwargs):
        steps.append(1)
        if len(steps) == kill:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", step_and_stop)
    with pytest.raises(Stopped):
        task.run(encoder, *sources, out=tmp_path / "cut", quiet=True)
    cut = task.run(encoder, *sources, out=tmp_path / "cut", quiet=True)
    assert cut == whole
    one, other = states(tmp_path / "whole")["model"], states(tmp_path / "cut")["model"]
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@METHODS
def test_figures_do_not_depend_on_workers(cls, method, more, encoder, sources):
    runs = [
        cls(method=method, **{**SMALL, "epochs": 1, "num_workers": workers, "cache_mb": 0}, **more)
        .run(encoder, *sources, quiet=True)
        .parents["head"]
        for workers in (0, 2)
    ]
    assert runs[0] == runs[1]


def test_averaged_weights_are_what_is_measured(encoder, sources):
    task = {"method": "fixmatch", **SMALL}
    plain = SemiSupervised(**task).run(encoder, *sources, quiet=True)
    tracked = SemiSupervised(**task, ema_decay=0.0).run(encoder, *sources, quiet=True)
    slow = SemiSupervised(**task, ema_decay=0.99).run(encoder, *sources, quiet=True)
    assert tracked.parents["head"] == plain.parents["head"]  # a decay of 0 copies
    assert slow.parents["head"] != plain.parents["head"]


@METHODS
def test_three_labels_and_unlabelled_colours_are_learnt(cls, method, more, encoder, sources):
    settings = {**SMALL, "epochs": 4, "steps_per_epoch": 20, "lr": 0.02, **more}
    report = cls(method=method, label_ratio=0.25, **settings).run(encoder, *sources, quiet=True)
    assert report.metrics["top1"] >= 75


def test_the_command_line_takes_a_foreign_source(folders, tmp_path, capsys):
    words = ["evaluate", "opensemi", "--encoder", "timm:test_resnet@random", "--image-size", "16", "--json", "--quiet"]
    words += ["--train", str(folders / "train"), "--test", str(folders / "test"), "--out", str(tmp_path / "out")]
    words += ["--unlabelled", str(folders / "foreign"), "--method", "openmatch", "--start-epoch", "1", "--epochs", "2"]
    words += ["--steps-per-epoch", "2", "--batch-size", "8", "--num-workers", "0", "--device", "cpu"]
    assert main(words) == 0
    assert 0 <= json.loads(capsys.readouterr().out)["top1"] <= 100
    details = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert details["details"]["num_unlabelled_added"] == 10
    assert {"unlabelled", "encoder", "train", "test", "head"} <= set(details["parents"])
    images = str(folders / "test")
    assert main(["predict", images, "--head", str(tmp_path / "out"), "--out", str(tmp_path / "a.csv"), "--quiet"]) == 0


def test_a_coreset_may_be_what_is_unlabelled(encoder, sources, folders, tmp_path):
    pool = Embedder(encoder, num_workers=0, quiet=True)(open_images(folders / "foreign"))
    target = Embedder(encoder, num_workers=0, quiet=True)(sources[0])
    Random().select(target, pool, budget=4).save(tmp_path / "coreset.parquet")
    report = evaluate(
        OpenSemi(method="openmatch", **SMALL),
        encoder,
        train=sources[0],
        test=sources[1],
        unlabelled=tmp_path / "coreset.parquet",
        quiet=True,
    )
    assert report.details["num_unlabelled_added"] == 4


def test_every_image_is_judged_by_itself(encoder, sources, folders, tmp_path, write_colours):
    write_colours(tmp_path / "more", 3, 5, ["white"])
    (tmp_path / "more" / "white" / "1.png").write_bytes(b"\x89PNG cut off")
    train, test = sources
    task = OpenSemi(method="openmatch", label_ratio=0.5, **SMALL)
    rows = FineTune(label_ratio=0.5).labelled_rows(train.labels)
    problem = Problem(
        task=task,
        encoder=encoder,
        images=train.take(rows),
        labels=train.labels[rows],
        unlabelled=unlabelled_images(train, rows, test, open_images(tmp_path / "more")),
        test=test,
        classes=train.classes,
        state=None,
        quiet=True,
    )
    model = task.build(problem, make_fabric("cpu", "32"))
    with torch.no_grad():
        # Classifiers that look only at how an image differs from the others: some images are then outliers.
        known = Embedder(encoder, num_workers=0, dtype="float32", quiet=True)(train)
        mean = torch.from_numpy(known.features.take(np.arange(len(train)))).mean(0)
        model.open_weight.normal_(0.0, 1.0, generator=torch.Generator().manual_seed(0))
        model.open_weight.sub_((model.open_weight @ mean)[:, None] * mean / (mean @ mean))
    task.on_epoch(problem, model)(Moment(4, 14, 32, 3, 96))
    images = problem.unlabelled.images
    assert (len(images), problem.unlabelled.num_own) == (15, 12)
    wanted = []
    for row in range(15):
        try:
            images.decode(row)
        except ImageFault:
            wanted.append(0.0)
            continue
        one = Embedder(encoder, num_workers=0, dtype="float32", quiet=True)(images.take([row]))
        features = torch.from_numpy(one.features.take(np.arange(1)))
        with torch.no_grad():
            best = int(model.network.head(features).argmax())
            inlier, outlier = model.open_logits(features)[0, :, best].tolist()
        wanted.append(float(inlier > outlier))
    assert model.inliers.tolist() == wanted
    assert 0 < sum(wanted) < 14
    assert task.details(problem, model) == {
        "num_inliers": int(sum(wanted[:12])),
        "num_inliers_added": int(sum(wanted[12:])),
    }
    model.inliers.zero_()
    task.on_epoch(problem, model)(Moment(3, 11, 32, 3, 96))  # before the start nothing is judged
    assert not model.inliers.any()


def test_only_tasks_that_want_them_take_unlabelled_images(encoder, sources, folders, capsys):
    with pytest.raises(UsageError, match="finetune takes no unlabelled"):
        FineTune().run(encoder, *sources, unlabelled=sources[0], quiet=True)
    words = ["evaluate", "knn", "--encoder", "x", "--train", "x", "--test", "x", "--out", "x", "--unlabelled", "x"]
    assert main(words) == 2
    assert "unknown argument '--unlabelled'" in capsys.readouterr().err


def test_nothing_unlabelled_is_refused(encoder, sources):
    with pytest.raises(UsageError, match="no unlabelled image: all 24"):
        SemiSupervised(label_ratio=1.0, **SMALL).run(encoder, *sources, quiet=True)
    with pytest.raises(UsageError, match="no unlabelled image"):  # its own images again
        SemiSupervised(label_ratio=1.0, **SMALL).run(encoder, *sources, unlabelled=sources[0], quiet=True)


def test_test_images_are_not_learnt_from(encoder, sources):
    train, test = sources
    with pytest.warns(SimcoreWarning, match="12 of its images are test images"), pytest.raises(UsageError):
        SemiSupervised(label_ratio=1.0, **SMALL).run(encoder, train, test, unlabelled=test, quiet=True)


def test_train_images_without_label_are_unlabelled_images(encoder, sources, folders):
    train, test = sources
    mixed = train + open_images(folders / "foreign" / "white")  # a flat folder: no labels
    assert (mixed.labels < 0).sum() == 5
    with pytest.warns(SimcoreWarning, match="5 of 29 train images have no label"):
        report = SemiSupervised(label_ratio=1.0, **SMALL).run(encoder, mixed, test, quiet=True)
    assert (report.details["num_labels"], report.details["num_unlabelled"]) == (24, 5)


def test_unreadable_unlabelled_images_are_counted(encoder, folders, tmp_path, write_colours):
    write_colours(tmp_path / "train", 4, 0)
    for folder in (tmp_path / "train").iterdir():
        (folder / "9.png").write_bytes(b"\x89PNG cut off")
    train, test = open_images(tmp_path / "train"), open_images(folders / "test")
    task = OpenSemi(method="openmatch", label_ratio=0.01, start_epoch=1, **SMALL)
    with pytest.warns(SimcoreWarning, match="unreadable"):
        report = task.run(encoder, train, test, quiet=True)
    skipped = report.details["num_train_skipped"], report.details["num_unlabelled_skipped"]
    assert sum(skipped) == 3


@pytest.mark.filterwarnings("ignore::simcore.errors.SimcoreWarning")
def test_nothing_readable_is_an_error(encoder, folders, tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(b"\x89PNG cut off")
    train, test = open_images(folders / "train"), open_images(folders / "test")
    with pytest.raises(SimcoreError, match="none of the 3 unlabelled images could be read"):
        SemiSupervised(label_ratio=1.0, **SMALL).run(encoder, train, test, unlabelled=open_images(tmp_path), quiet=True)


def test_no_common_class_is_refused_in_one_line(encoder, sources, folders):
    with pytest.raises(SimcoreError, match="no test image has a class of the train set") as refusal:
        SemiSupervised(**SMALL).run(encoder, sources[0], open_images(folders / "foreign"), quiet=True)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"label_ratio": 0.0},
        {"method": "mixup"},
        {"temperature": 0.0},
        {"mixup_alpha": 0.0},
        {"num_guesses": 0},
        {"threshold": 1.5},
        {"steps_per_epoch": 0},
        {"mu": 0},
        {"ema_decay": 1.0},
        {"rotation_weight": -1.0},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong)).replace("_", "-")):
        SemiSupervised(**wrong)


@pytest.mark.parametrize("wrong", [{"unlabelled_weight": 1.5}, {"start_epoch": 0}, {"teacher_batch_size": 1}])
def test_settings_of_open_sets_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong)).replace("_", "-")):
        OpenSemi(**wrong)
