from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from simcore.artifacts import Report
from simcore.errors import SimcoreError, SimcoreWarning, UsageError
from simcore.tasks.knn import KNN, votes


def literal_knn(train, test, k, temperature):
    """Vote image by image; give top-1 and top-5 in percent (classes without a vote are no answer)."""
    bank = np.asarray(train.features, np.float64)
    bank /= np.linalg.norm(bank, axis=1, keepdims=True)
    names = [train.classes[c] for c in train.labels]
    right1 = right5 = 0
    for row, label in zip(np.asarray(test.features, np.float64), test.labels, strict=True):
        similarity = bank @ (row / np.linalg.norm(row))
        vote = {}
        for j in sorted(range(len(bank)), key=lambda j: -similarity[j])[:k]:
            vote[names[j]] = vote.get(names[j], 0.0) + math.exp(similarity[j] / temperature)
        order = sorted(vote, key=lambda name: -vote[name])
        right1 += order[0] == test.classes[label]
        right5 += test.classes[label] in order[:5]
    return 100 * right1 / len(test), 100 * right5 / len(test)


@pytest.mark.parametrize("k", [1, 3, 10, 160])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_figures_equal_a_literal_vote(blobs, k, temperature):
    train, test = blobs(num_classes=8, spread=1.2, seed=k)
    metrics = KNN(k=(k,), temperature=temperature).run(None, train, test).metrics
    top1, top5 = literal_knn(train, test, k, temperature)
    assert metrics[f"top1_k{k}"] == pytest.approx(top1)
    assert metrics[f"top5_k{k}"] == pytest.approx(top5)
    assert 0 < top1 < 100


def test_votes_are_sums_of_weights():
    similarity = torch.tensor([[0.9, 0.5, 0.1]])
    scores = votes(similarity, torch.tensor([[2, 0, 2]]), 0.5, 4)[0]
    scale = math.exp(0.9 / 0.5)
    assert scores[2].item() * scale == pytest.approx(math.exp(0.9 / 0.5) + math.exp(0.1 / 0.5), rel=1e-6)
    assert scores[0].item() * scale == pytest.approx(math.exp(0.5 / 0.5), rel=1e-6)
    assert scores[1] == scores[3] == -math.inf


def test_tiny_temperatures_stay_finite():
    scores = votes(torch.tensor([[1.0, 0.99]]), torch.tensor([[0, 1]]), 1e-4, 2)
    assert scores[0, 0] == 1.0
    assert scores[0, 1] == pytest.approx(math.exp(-100), rel=1e-2)


def test_k_is_clamped_to_the_bank_and_said(store):
    train = store(np.eye(10), [f"c{i}" for i in range(10)])
    with pytest.warns(SimcoreWarning, match="k = 20 clamped to 10"):
        report = KNN(k=(1, 20)).run(None, train, train)
    assert report.metrics["top1_k1"] == report.metrics["top1_k20"] == 100.0
    assert report.details["by_k"]["20"]["k_used"] == 10


def test_classes_are_matched_by_name(store):
    colours = np.eye(4)
    train = store(np.repeat(colours, 4, 0), [n for n in ("0", "180", "270", "90") for _ in range(4)])
    test = store(np.repeat(colours[[0, 2, 3]], 4, 0), [n for n in ("0", "270", "90") for _ in range(4)])
    with pytest.warns(SimcoreWarning, match="'180'"):
        report = KNN(k=(1,)).run(None, train, test)
    assert report.metrics["top1_k1"] == 100.0
    assert report.metrics["mean_per_class_k1"] == 100.0
    assert report.metrics["mean_per_class_published_k1"] == 75.0
    assert report.details["absent_classes"] == ["180"]


def test_the_report_is_left_and_says_how_it_was_made(blobs, tmp_path):
    train, test = blobs()
    report = KNN(k=(5,), seed=3).run(None, train, test, out=tmp_path / "knn")
    assert Report.load(tmp_path / "knn").metrics == report.metrics
    assert report.task == "knn"
    assert report.settings["k"] == [5]
    assert report.settings["seed"] == 3
    assert report.parents == {"train": train.fingerprint, "test": test.fingerprint}
    assert report.details["num_train"] == 60
    assert "encoder_name" not in report.details  # arrays do not say


def test_the_report_names_the_encoder_that_a_store_was_made_by(blobs):
    from simcore.reporting._facts import arm_of

    train, test = blobs()
    stored = dataclasses.replace(train, info={"encoder": "runs/moths"})
    assert arm_of(KNN(k=(5,)).run(None, stored, test)) == "runs/moths"


def test_equal_input_gives_equal_figures(blobs):
    train, test = blobs(spread=1.5)
    assert KNN(k=(7,)).run(None, train, test) == KNN(k=(7,)).run(None, train, test)


@pytest.mark.parametrize("settings", [{"k": ()}, {"k": (0,)}, {"temperature": 0.0}, {"temperature": float("nan")}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(UsageError):
        KNN(**settings)


def test_features_that_are_no_numbers_are_refused(store):
    train = store([[1.0, np.nan], [0.0, 1.0]], ["a", "b"])
    with pytest.raises(SimcoreError, match="1 train features are not finite, the first that of 0"):
        KNN(k=(1,)).run(None, train, store([[1.0, 0.0]], ["a"]))


def test_stores_of_two_encoders_are_refused(store):
    one = store(np.eye(2), ["a", "b"], encoder_fingerprint="1")
    other = store(np.eye(2), ["a", "b"], encoder_fingerprint="2")
    with pytest.raises(SimcoreError, match="encoder"):
        KNN(k=(1,)).run(None, one, other)
    with pytest.raises(SimcoreError, match="dimensions"):
        KNN(k=(1,)).run(None, one, store(np.eye(3), ["a", "b", "c"]))
