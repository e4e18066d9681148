from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from simcore.artifacts import Report
from simcore.errors import SimcoreError, SimcoreWarning, UsageError
from simcore.tasks._features import LabelledFeatures
from simcore.tasks._head import Head
from simcore.tasks._heads import FeatureBatches, Heads
from simcore.tasks._scaling import Scaling
from simcore.tasks.linear import LinearProbe
from simcore.training import FitSettings, fit

QUICK = {"epochs": 10, "batch_size": 16, "device": "cpu"}


def labelled(n=30, dim=5, num_classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return LabelledFeatures(
        features=torch.randn(n, dim, generator=generator),
        labels=torch.randint(0, num_classes, (n,), generator=generator),
    )


def test_each_head_trains_as_if_it_were_alone():
    """Three heads in one pass against three plain torch loops over the same batches."""
    data, lrs, epochs = labelled(), (0.05, 0.5, 5.0), 6
    heads = Heads(dim=5, num_classes=3, lrs=lrs, seed=1, watched=data)
    start = heads.weights[0].detach().clone()
    batches = FeatureBatches(data=data, batch_size=8, seed=2)
    settings = FitSettings(
        epochs=epochs,
        lr=1.0,
        momentum=0.9,
        weight_decay=1e-3,
        schedule="step",
        lr_decay_epochs=(3, 5),
        device="cpu",
        precision="32",
    )
    fit(heads, batches, settings, quiet=True)
    for number, lr in enumerate(lrs):
        plain = nn.Linear(5, 3)
        with torch.no_grad():
            plain.weight.copy_(start)
            plain.bias.zero_()
        optimizer = torch.optim.SGD(plain.parameters(), lr, momentum=0.9, nesterov=True, weight_decay=1e-3)
        for epoch in range(epochs):
            optimizer.param_groups[0]["lr"] = lr * (0.01 if epoch >= 5 else 0.1 if epoch >= 3 else 1.0)
            for features, labels in batches(epoch, 0):
                optimizer.zero_grad()
                nn.functional.cross_entropy(plain(features), labels).backward()
                optimizer.step()
        torch.testing.assert_close(heads.weights[number], plain.weight, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(heads.biases[number], plain.bias, rtol=1e-4, atol=1e-5)


def test_a_head_that_diverges_leaves_the_others_alone():
    data = labelled()
    alone = Heads(dim=5, num_classes=3, lrs=(0.1,), seed=1, watched=data)
    beside = Heads(dim=5, num_classes=3, lrs=(0.1, 1e38), seed=1, watched=data)
    settings = FitSettings(epochs=4, lr=1.0, weight_decay=0.0, schedule="constant", device="cpu", precision="32")
    for heads in (alone, beside):
        fit(heads, FeatureBatches(data=data, batch_size=8, seed=2), settings, quiet=True)
    assert not torch.isfinite(beside.weights[1]).all()
    torch.testing.assert_close(alone.weights[0], beside.weights[0])
    assert beside.best.score.lr == 0.1


def test_batches_hold_every_row_once_and_depend_on_seed_and_epoch_alone():
    data = LabelledFeatures(features=torch.arange(10.0)[:, None], labels=torch.arange(10))
    batches = FeatureBatches(data=data, batch_size=4, seed=0)
    first = [labels.tolist() for _, labels in batches(0, 0)]
    assert [len(batch) for batch in first] == [4, 4, 2]
    assert batches.steps_per_epoch == 3
    assert sorted(label for batch in first for label in batch) == list(range(10))
    assert [labels.tolist() for _, labels in batches(0, 1)] == first[1:]
    assert [labels.tolist() for _, labels in batches(1, 0)] != first


def test_separable_classes_are_learnt(blobs):
    train, test = blobs()
    report = LinearProbe(**QUICK).run(None, train, test, quiet=True)
    assert report.metrics["top1"] > 95
    assert report.metrics["top5"] == 100.0
    assert report.details["lr"] in LinearProbe().lr
    assert 1 <= report.details["epoch"] <= 10
    assert len(report.details["tried"]) == len(LinearProbe().lr)
    assert report.details["interval_95"]["top1"][0] <= report.metrics["top1"]


def test_the_test_set_chooses_nothing(blobs):
    """With the test labels turned round, the head stays the same to the bit."""
    train, test = blobs(spread=1.0)
    turned = type(test)(features=test.features, table=test.table, classes=test.classes[::-1])
    heads = [LinearProbe(**QUICK).run(None, train, rows, quiet=True).parents["head"] for rows in (test, turned)]
    assert heads[0] == heads[1]


def test_the_published_choice_takes_the_best_test_epoch(blobs):
    train, test = blobs(spread=1.5, per_class=10)
    published = LinearProbe(lr=(0.3, 10.0), choose_on="test", **QUICK).run(None, train, test, quiet=True)
    assert published.details["chosen_on"] == "test"
    assert published.metrics["top1"] == max(tried["accuracy"] for tried in published.details["tried"])
    assert LinearProbe.published().lr == (10.0,)
    assert LinearProbe.published().choose_on == "test"
    assert LinearProbe.published().fit_settings().lr_decay_epochs == (60, 80)


def test_retraining_uses_the_whole_training_set(blobs):
    train, test = blobs(spread=1.0)
    again = LinearProbe(**QUICK).run(None, train, test, quiet=True)
    once = LinearProbe(retrain=False, **QUICK).run(None, train, test, quiet=True)
    assert (again.details["lr"], again.details["epoch"]) == (once.details["lr"], once.details["epoch"])
    assert again.parents["head"] != once.parents["head"]


def test_one_image_a_class_leaves_nothing_to_hold_out(store):
    train = store(np.eye(4), list("abcd"))
    with pytest.warns(SimcoreWarning, match="single train image"):
        report = LinearProbe(**QUICK).run(None, train, train, quiet=True)
    assert report.metrics["top1"] == 100.0


def test_equal_seeds_give_equal_heads(blobs):
    train, test = blobs(spread=1.0)
    found = [LinearProbe(seed=seed, **QUICK).run(None, train, test, quiet=True) for seed in (1, 1, 2)]
    assert found[0] == found[1]
    assert found[0].parents["head"] != found[2].parents["head"]


@pytest.mark.parametrize("scaling", ["none", "unit", "standard"])
def test_the_head_is_saved_and_answers_alike(blobs, tmp_path, scaling):
    train, test = blobs(spread=1.0, shift=3.0)
    report = LinearProbe(scaling=scaling, **QUICK).run(None, train, test, out=tmp_path, quiet=True)
    head = Head.load(tmp_path)
    assert head.classes == ("a", "b", "c")
    assert head.fingerprint == report.parents["head"]
    said = head.logits(torch.from_numpy(np.asarray(test.features))).argmax(1).numpy()
    assert 100 * (said == test.labels).mean() == pytest.approx(report.metrics["top1"])
    assert report.metrics["top1"] > 60
    assert Report.load(tmp_path).metrics == report.metrics


def test_scalings_do_what_they_say_and_fold_away():
    features = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5.0, 0.1, 2.0]) + 7
    plain, unit, standard = (Scaling.of(kind, features) for kind in ("none", "unit", "standard"))
    assert torch.equal(plain(features), features)
    assert unit(features).norm(dim=1).numpy() == pytest.approx(np.ones(50), rel=1e-6)
    torch.testing.assert_close(standard(features).mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(standard(features).var(0, correction=0), torch.ones(4), atol=1e-3, rtol=0)
    weight, bias = torch.randn(3, 4), torch.randn(3)
    folded = nn.functional.linear(features, *standard.fold(weight, bias))
    torch.testing.assert_close(folded, nn.functional.linear(standard(features), weight, bias), atol=1e-3, rtol=1e-4)


def test_foreign_head_files_are_refused(tmp_path):
    with pytest.raises(SimcoreError, match="no such file"):
        Head.load(tmp_path)
    (tmp_path / "head.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(SimcoreError, match="not a head"):
        Head.load(tmp_path)
    with pytest.raises(SimcoreError, match="dimensions"):
        Head(weight=torch.zeros(2, 3), bias=torch.zeros(2), classes=("a", "b")).logits(torch.zeros(1, 4))


@pytest.mark.parametrize(
    "settings",
    [
        {"lr": ()},
        {"lr": (0.0,)},
        {"epochs": 0},
        {"batch_size": 0},
        {"split_share": 1.0},
        {"choose_on": "train"},
        {"choose_by": "f1"},
    ],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(UsageError):
        LinearProbe(**settings)


def test_nothing_is_told_on_clean_input(blobs):
    with warnings.catch_warnings():
        warnings.simplefilter("error", SimcoreWarning)
        LinearProbe(**QUICK).run(None, *blobs(), quiet=True)
