from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_accuracy

from simcore.errors import SimcoreError
from simcore.tasks._metrics import NEVER, Answers, accuracies, describe, intervals, per_class


def literal(scores, targets, num_classes):
    """Count by hand, image by image."""
    top1 = top5 = 0
    hits, support = [0] * num_classes, [0] * num_classes
    for row, target in zip(scores.tolist(), targets.tolist(), strict=True):
        order = sorted(range(num_classes), key=lambda c: (-row[c], c))
        top1 += order[0] == target
        top5 += target in order[:5]
        support[target] += 1
        hits[target] += order[0] == target
    present = [c for c in range(num_classes) if support[c]]
    return {
        "top1": 100 * top1 / len(targets),
        "top5": 100 * top5 / len(targets),
        "mean_per_class": 100 * sum(hits[c] / support[c] for c in present) / len(present),
        "mean_per_class_published": 100 * sum(hits[c] / support[c] for c in present) / num_classes,
    }


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("num_classes", [2, 5, 9])
def test_accuracies_equal_a_literal_count(seed, num_classes):
    generator = torch.Generator().manual_seed(seed)
    # Few distinct scores make many ties; few images leave classes absent.
    scores = torch.randint(0, 4, (12, num_classes), generator=generator).float()
    targets = torch.randint(0, num_classes, (12,), generator=generator)
    found = accuracies(Answers.from_scores(scores, targets))
    assert found == pytest.approx(literal(scores, targets, num_classes))


def test_accuracies_equal_torchmetrics_where_it_is_right():
    generator = torch.Generator().manual_seed(1)
    scores, targets = torch.randn(300, 7, generator=generator), torch.randint(0, 7, (300,), generator=generator)
    found = accuracies(Answers.from_scores(scores, targets))
    for name, options in {
        "top1": {"average": "micro"},
        "top5": {"average": "micro", "top_k": 5},
        "mean_per_class": {"average": "macro"},
    }.items():
        assert found[name] == pytest.approx(
            100 * multiclass_accuracy(scores, targets, num_classes=7, **options).item(), abs=1e-4
        )


def test_a_class_absent_from_the_test_set_does_not_count():
    perfect = Answers.from_labels([0, 0, 1, 1, 3, 3], [0, 0, 1, 1, 3, 3], num_classes=4)
    assert accuracies(perfect)["mean_per_class"] == 100.0
    assert accuracies(perfect)["mean_per_class_published"] == 75.0
    mixed = Answers.from_labels([0, 0, 0, 2, 1, 0, 3, 3, 3, 3], [0, 0, 0, 0, 1, 1, 3, 3, 3, 3], num_classes=4)
    assert accuracies(mixed)["mean_per_class"] == pytest.approx(75.0)
    assert accuracies(mixed)["top1"] == pytest.approx(80.0)
    assert mixed.absent == [2]
    assert per_class(mixed, "abcd") == {
        "a": {"accuracy": 75.0, "images": 4},
        "b": {"accuracy": 50.0, "images": 2},
        "d": {"accuracy": 100.0, "images": 4},
    }


def test_more_classes_do_not_lower_the_mean():
    values = {n: accuracies(Answers.from_labels([0, 1], [0, 1], num_classes=n))["mean_per_class"] for n in (2, 3, 50)}
    assert set(values.values()) == {100.0}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_class_without_a_finite_score_is_never_an_answer(bad):
    answers = Answers.from_scores(torch.tensor([[bad, bad, bad], [bad, 1.0, bad]]), torch.tensor([0, 1]))
    assert answers.ranks.tolist() == [NEVER, 0]
    assert answers.predicted.tolist() == [3, 1]
    assert accuracies(answers)["top5"] == 50.0


def test_no_test_image_is_an_error():
    with pytest.raises(SimcoreError, match="no test image"):
        accuracies(Answers.from_labels([], [], num_classes=3))


def test_joined_batches_are_the_whole():
    scores, targets = torch.randn(10, 4), torch.randint(0, 4, (10,))
    parts = [Answers.from_scores(scores[i : i + 3], targets[i : i + 3]) for i in range(0, 10, 3)]
    assert accuracies(Answers.join(parts)) == accuracies(Answers.from_scores(scores, targets))


def test_intervals_cover_what_the_binomial_says():
    right = np.arange(400) < 300  # 75 % of 400: standard error 2.165 points
    answers = Answers.from_labels(np.where(right, 0, 1), np.zeros(400, int), num_classes=2)
    low, high = intervals(answers, seed=3)["top1"]
    assert low == pytest.approx(75 - 1.96 * 2.165, abs=0.7)
    assert high == pytest.approx(75 + 1.96 * 2.165, abs=0.7)


def test_intervals_follow_a_literal_bootstrap():
    generator = torch.Generator().manual_seed(0)
    scores, targets = torch.randn(30, 6, generator=generator), torch.randint(0, 6, (30,), generator=generator)
    answers = Answers.from_scores(scores, targets)
    draws = np.random.default_rng([5, 0xB007])
    values = []
    for _ in range(20):
        rows = torch.from_numpy(draws.integers(0, 30, 30))
        values.append(literal(scores[rows], targets[rows], 6)["mean_per_class"])
    assert intervals(answers, seed=5, num_draws=20)["mean_per_class"] == pytest.approx(
        tuple(np.percentile(values, [2.5, 97.5]))
    )


def test_intervals_are_a_function_of_the_seed():
    answers = Answers.from_labels([0, 1, 1, 0], [0, 1, 0, 0], num_classes=2)
    assert intervals(answers, seed=1) == intervals(answers, seed=1)
    assert set(describe(answers, "ab", seed=1)) == {"interval_95", "per_class"}
