"""Mixup against a literal loop, and the ramps at their ends."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from simcore.tasks._mixup import draw_mixing, mixup
from simcore.tasks._ramps import linear_ramp, sigmoid_ramp


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("at_least_half", [False, True])
def test_each_row_is_mixed_with_its_partner(at_least_half):
    inputs, targets = torch.randn(7, 3, 4, 4, generator=generator(1)), torch.eye(7)
    mixed, labels = mixup(inputs, targets, 0.75, generator(2), at_least_half=at_least_half)
    partners, shares = draw_mixing(7, 0.75, generator(2), at_least_half=at_least_half)
    assert sorted(partners.tolist()) == list(range(7))
    for i, (j, share) in enumerate(zip(partners.tolist(), shares.tolist(), strict=True)):
        torch.testing.assert_close(mixed[i], share * inputs[i] + (1 - share) * inputs[j])
        torch.testing.assert_close(labels[i], share * targets[i] + (1 - share) * targets[j])
    torch.testing.assert_close(labels.sum(1), torch.ones(7))


def test_shares_follow_the_beta_distribution():
    plain = draw_mixing(4000, 0.75, generator(3), at_least_half=False)[1]
    assert stats.kstest(plain.double(), stats.beta(0.75, 0.75).cdf).pvalue > 1e-3
    half = draw_mixing(4000, 0.75, generator(3), at_least_half=True)[1]
    assert half.min() >= 0.5
    torch.testing.assert_close(half, torch.maximum(plain, 1 - plain))


def test_equal_generators_mix_alike():
    one, other = (mixup(torch.arange(9.0)[:, None], torch.eye(9), 0.2, generator(4), at_least_half=True) for _ in "ab")
    assert all(a.equal(b) for a, b in zip(one, other, strict=True))


def test_ramps():
    assert [linear_ramp(step, 4) for step in range(6)] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert sigmoid_ramp(0, 4) == pytest.approx(math.exp(-5))
    assert sigmoid_ramp(2, 4) == pytest.approx(math.exp(-1.25))
    assert [ramp(step, 4) for ramp in (linear_ramp, sigmoid_ramp) for step in (4, 9)] == [1.0] * 4
    assert linear_ramp(0, 0) == sigmoid_ramp(0, 0) == 1.0
