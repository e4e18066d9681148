"""What is drawn for the colours: torchvision's distributions, the same stream whatever the settings."""

from __future__ import annotations

import itertools

import pytest
import torch
from scipy import stats

from simcore.views import Photometric
from simcore.views._photometric import NEVER

NUM = 6000


def draw(seed=0, **settings):
    return Photometric(**settings).draw(NUM, torch.Generator().manual_seed(seed))


def test_all_orders_of_the_four_operations_are_equally_likely():
    orders = [tuple(order) for order in draw().order.tolist()]
    counts = [orders.count(permutation) for permutation in itertools.permutations(range(4))]
    assert sum(counts) == NUM
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(("operation", "low", "high"), [(0, 0.2, 1.8), (1, 0.5, 1.5), (2, 0.0, 2.5), (3, -0.2, 0.2)])
def test_factors_are_uniform_between_torchvisions_bounds(operation, low, high):
    factors = draw(brightness=0.8, contrast=0.5, saturation=1.5, hue=0.2).factors[:, operation]
    assert stats.kstest(factors, stats.uniform(low, high - low).cdf).pvalue > 1e-3
    assert low <= factors.min() <= factors.max() <= high


def test_every_gate_opens_as_often_as_told_and_by_itself():
    colours = draw(jitter_probability=0.8, grayscale_probability=0.2, blur_probability=0.5, solarize_probability=0.3)
    gates = torch.stack([colours.jittered, colours.grayscale, colours.blurred, colours.solarized]).double()
    torch.testing.assert_close(gates.mean(dim=1), torch.tensor([0.8, 0.2, 0.5, 0.3]).double(), atol=0.025, rtol=0)
    assert (torch.corrcoef(gates) - torch.eye(4)).abs().max() < 0.05


def test_sigma_is_uniform():
    assert stats.kstest(draw(min_sigma=0.5, max_sigma=1.5).sigma, stats.uniform(0.5, 1.0).cdf).pvalue > 1e-3


def test_hue_turn_is_its_place_in_the_order():
    colours = draw(jitter_probability=0.5)
    for turn, jittered, order in zip(
        colours.hue_turn.tolist(), colours.jittered.tolist(), colours.order.tolist(), strict=True
    ):
        assert turn == (order.index(3) if jittered else NEVER)


def test_settings_do_not_shift_the_stream():
    none = {"jitter_probability": 0.0, "grayscale_probability": 0.0}
    plain, full = draw(**none), draw(blur_probability=1.0, solarize_probability=1.0)
    assert torch.equal(plain.order, full.order)
    assert torch.equal(plain.factors, full.factors)
    assert torch.equal(plain.sigma, full.sigma)
