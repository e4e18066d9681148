from __future__ import annotations

import itertools
import math

import pytest

from simcore.errors import UsageError
from simcore.training.schedule import learning_rate, rescaled_epochs, weight_decay
from simcore.training.settings import FitSettings, PretrainSettings
from simcore.training.trainable import Moment


def at(step: int, *, epochs: int = 10, per_epoch: int = 4) -> Moment:
    return Moment(step // per_epoch, step, epochs, per_epoch, epochs * per_epoch)


def test_cosine_is_the_published_one_with_epochs_from_1() -> None:
    settings = FitSettings(lr=0.1, epochs=10)
    low = 0.1 * 0.1**3
    for epoch in range(10):
        expected = low + (0.1 - low) * (1 + math.cos(math.pi * (epoch + 1) / 10)) / 2
        assert [learning_rate(settings, at(4 * epoch + i)) for i in range(4)] == pytest.approx([expected] * 4)
    assert learning_rate(settings, at(39)) == pytest.approx(low)


def test_cosine_per_step_goes_from_the_top_to_the_bottom_without_overshoot() -> None:
    rates = [learning_rate(FitSettings(schedule="cosine-per-step"), at(step)) for step in range(40)]
    assert rates[0] == pytest.approx(0.1)
    assert all(a > b for a, b in itertools.pairwise(rates))
    assert rates[-1] > 0.1 * 0.1**3


def test_cosine_over_max_steps_does_not_depend_on_the_length_of_an_epoch() -> None:
    settings = FitSettings(max_steps=40)
    short = [learning_rate(settings, at(step, epochs=20, per_epoch=2)) for step in range(40)]
    long = [learning_rate(settings, at(step, epochs=1, per_epoch=40)) for step in range(40)]
    assert short == long


def test_step_decays_after_the_named_epochs() -> None:
    settings = FitSettings(schedule="step", lr_decay_epochs=(3, 6), lr=1.0)
    rates = [learning_rate(settings, at(4 * epoch)) for epoch in range(10)]
    assert rates == pytest.approx([1.0] * 3 + [0.1] * 3 + [0.01] * 4)


def test_poly_falls_to_nothing_at_the_last_step() -> None:
    rates = [learning_rate(FitSettings(schedule="poly", lr=2.0), at(step)) for step in range(40)]
    assert rates == pytest.approx([2.0 * (1 - step / 40) ** 0.9 for step in range(40)])


@pytest.mark.parametrize("schedule", ["cosine", "step", "poly", "constant"])
def test_warm_up_is_linear_and_meets_the_schedule(schedule: str) -> None:
    settings = FitSettings(schedule=schedule, warmup_epochs=2, lr=1.0)
    rates = [learning_rate(settings, at(step)) for step in range(8)]
    end = 1.0
    if schedule == "cosine":
        end = 1e-3 + (1 - 1e-3) * (1 + math.cos(math.pi * 2 / 10)) / 2
    if schedule == "poly":
        end = 0.8**0.9
    assert rates == pytest.approx([0.1 + (end - 0.1) * step / 8 for step in range(8)])


def test_a_warm_up_longer_than_the_run_still_ends_with_it() -> None:
    settings = FitSettings(warmup_epochs=50, lr=1.0, schedule="constant")
    assert learning_rate(settings, at(39)) == pytest.approx(0.1 + 0.9 * 39 / 40)


def test_weight_decay_follows_a_cosine_where_an_end_is_named() -> None:
    settings = FitSettings(weight_decay=0.04, weight_decay_end=0.4)
    assert weight_decay(settings, at(0), 0.04) == pytest.approx(0.04)
    assert weight_decay(settings, at(20), 0.04) == pytest.approx(0.22)
    assert weight_decay(settings, at(20), 0.0) == 0.0
    assert weight_decay(FitSettings(), at(20), 0.3) == 0.3


@pytest.mark.parametrize(
    ("num_added", "expected"), [(25_623, 5000), (25_624, 4999), (200_000, 640), (0, 5000), (10**9, 1)]
)
def test_epochs_are_rescaled_as_published(num_added: int, expected: int) -> None:
    assert rescaled_epochs(5000, num_added, 1_281_167) == expected


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"lr": -1.0}, {"lr": math.nan}, {"optimizer": "sdg"}, {"betas": (0.9,)}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"--{next(iter(wrong))}"):
        FitSettings(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"batch_size": 1}, {"target_share": 1.0}, {"image_size": 0}])
def test_pretraining_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="--"):
        PretrainSettings(**wrong)  # type: ignore[arg-type]
