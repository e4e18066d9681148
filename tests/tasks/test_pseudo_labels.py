"""Targets from guesses, each against a literal loop over the papers' equations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from simcore.tasks._pseudo_labels import (
    Alignment,
    ClassThresholds,
    confident,
    guess,
    hardened,
    sharpen,
    statistics_kept,
)


def probabilities(num=5, classes=4, seed=0):
    return torch.randn(num, classes, generator=torch.Generator().manual_seed(seed)).mul(2).softmax(1)


def test_sharpening_is_a_power_scaled_to_one():
    given, temperature = probabilities(), 0.5
    made = sharpen(given, temperature)
    for row, got in zip(given.tolist(), made.tolist(), strict=True):
        powers = [value ** (1 / temperature) for value in row]
        assert got == pytest.approx([power / sum(powers) for power in powers], rel=1e-5)
    torch.testing.assert_close(sharpen(given, 1.0), given)
    assert torch.isfinite(sharpen(torch.tensor([[1.0, 0.0]]), 0.1)).all()


def test_a_guess_is_the_mean_over_views():
    views = [torch.randn(3, 4, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    made = guess(views)
    for row in range(3):
        for label in range(4):
            each = [math.exp(view[row, label]) / sum(math.exp(value) for value in view[row]) for view in views]
            assert made[row, label].item() == pytest.approx(sum(each) / 3, rel=1e-5)


def test_a_pass_under_statistics_kept_uses_the_batch_and_changes_nothing():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    images = torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with statistics_kept(network):
        looked = network(images)
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())
    torch.testing.assert_close(looked, network(images))
    assert network[1].num_batches_tracked == 1
    assert network[1].momentum == 0.1


def test_alignment_scales_by_known_shares_over_the_moving_mean():
    shares, align = torch.tensor([0.5, 0.25, 0.125, 0.125]), Alignment(torch.tensor([0.5, 0.25, 0.125, 0.125]), 0.7)
    mean = [0.0] * 4
    for seed in range(6):
        given = probabilities(seed=seed)
        made = align(given)
        batch = [sum(row[label] for row in given.tolist()) / 5 for label in range(4)]
        weight = max(0.3, 1 / (seed + 1))  # of the newest: as many as there are count alike until a window is full
        mean = [(1 - weight) * old + weight * new for old, new in zip(mean, batch, strict=True)]
        for row, got in zip(given.tolist(), made.tolist(), strict=True):
            scaled = [p * s / m for p, s, m in zip(row, shares.tolist(), mean, strict=True)]
            assert got == pytest.approx([value / sum(scaled) for value in scaled], rel=1e-4)
    torch.testing.assert_close(align.mean, torch.tensor(mean))


def by_definition(said, num_classes, threshold, warm_up):
    """Equations 5, 6 and 11 of FlexMatch, and its convex map, one class at a time."""
    counts = [sum(label == c for label in said) for c in range(num_classes)]
    unused = sum(label == -1 for label in said)
    most = max(max(counts), unused) if warm_up else max(counts)
    shares = [count / most if most else 0.0 for count in counts]
    return [share / (2 - share) * threshold for share in shares]


@pytest.mark.parametrize("warm_up", [True, False])
def test_thresholds_follow_what_was_last_said(warm_up):
    thresholds = ClassThresholds(3, 10, threshold=0.6, warm_up=warm_up)
    assert thresholds().tolist() == [0.0, 0.0, 0.0]
    said = [-1] * 10
    for step in range(8):
        generator = torch.Generator().manual_seed(step)
        rows = torch.randperm(10, generator=generator)[:4]
        given = probabilities(4, 3, seed=100 + step)
        thresholds.note(rows, given)
        for row, guessed in zip(rows.tolist(), given.tolist(), strict=True):
            if max(guessed) >= 0.6:
                said[row] = guessed.index(max(guessed))
        assert thresholds.said.tolist() == said
        assert thresholds().tolist() == pytest.approx(by_definition(said, 3, 0.6, warm_up), rel=1e-5)


def test_warm_up_is_what_holds_thresholds_down():
    low, high = (ClassThresholds(2, 10, threshold=0.9, warm_up=warm_up) for warm_up in (True, False))
    for thresholds in (low, high):
        thresholds.note(torch.tensor([3]), torch.tensor([[0.95, 0.05]]))
    assert high().tolist() == pytest.approx([0.9, 0.0])
    assert low().tolist() == pytest.approx([0.9 * (1 / 9) / (2 - 1 / 9), 0.0])


def test_the_mask_takes_one_threshold_or_one_a_class():
    given = torch.tensor([[0.96, 0.04], [0.6, 0.4], [0.2, 0.8]])
    assert confident(given, 0.95).tolist() == [1, 0, 0]
    assert confident(given, torch.tensor([0.97, 0.8])).tolist() == [0, 0, 1]
    assert hardened(given).tolist() == [[1, 0], [1, 0], [0, 1]]
