from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simcore.errors import SimcoreError, UsageError
from simcore.tasks._labels import held_out_split, label_budget, plain_label_budget

SIZES = (40, 10, 3, 1)
LABELS = np.repeat(np.arange(4), SIZES)


def counts(rows, labels=LABELS):
    return np.bincount(labels[rows], minlength=labels.max() + 1).tolist()


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [(0.1, [4, 1, 1, 1]), (0.01, [1, 1, 1, 1]), (0.5, [20, 5, 2, 1]), (1.0, [40, 10, 3, 1])],
)
def test_each_class_gets_its_rounded_share_but_at_least_one(ratio, expected):
    assert counts(label_budget(LABELS, ratio, seed=0)) == expected


@given(st.lists(st.integers(-1, 4), min_size=1, max_size=60), st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 9))
def test_smaller_budgets_lie_in_larger_ones(labels, one, other, seed):
    labels = np.asarray(labels, np.int64)
    small, large = (label_budget(labels, ratio, seed=seed) for ratio in sorted((one, other)))
    assert set(small) <= set(large)
    assert (labels[large] >= 0).all()
    assert len(set(large)) == len(large)


def test_one_seed_one_set():
    assert label_budget(LABELS, 0.3, seed=4).tolist() == label_budget(LABELS, 0.3, seed=4).tolist()
    assert label_budget(LABELS, 0.3, seed=4).tolist() != label_budget(LABELS, 0.3, seed=5).tolist()


def test_labels_of_other_classes_change_no_draw():
    fewer = np.where(LABELS == 1, -1, LABELS)
    kept = label_budget(fewer, 0.2, seed=0)
    assert kept.tolist() == [row for row in label_budget(LABELS, 0.2, seed=0) if LABELS[row] != 1]


def test_halves_round_up_in_spite_of_binary_fractions():
    assert len(label_budget(np.zeros(50, np.int64), 0.29, seed=0)) == 15  # 0.29 * 50 is 14.499999999999998


def test_the_published_draw_is_pythons_sample():
    random.seed(3)
    expected = sorted(random.sample(range(54), int(0.1 * 54)))
    assert plain_label_budget(LABELS, 0.1, seed=3).tolist() == expected


def test_a_plain_draw_of_nothing_is_an_error():
    with pytest.raises(SimcoreError, match="leaves no label"):
        plain_label_budget(LABELS, 0.01, seed=0)


@pytest.mark.parametrize("ratio", [0.0, -0.1, 1.01, float("nan")])
def test_ratios_out_of_range_are_refused(ratio):
    for draw in (label_budget, plain_label_budget):
        with pytest.raises(UsageError):
            draw(LABELS, ratio, seed=0)


def test_a_split_keeps_every_class_in_training():
    kept, held = held_out_split(LABELS, 0.2, seed=0)
    assert counts(held) == [8, 2, 1, 0]
    assert counts(kept) == [32, 8, 2, 1]
    assert sorted([*kept, *held]) == list(range(54))


@given(st.lists(st.integers(-1, 3), max_size=40), st.floats(0.01, 0.99), st.integers(0, 5))
def test_a_split_covers_the_labelled_rows_once(labels, share, seed):
    labels = np.asarray(labels, np.int64)
    kept, held = held_out_split(labels, share, seed=seed)
    assert sorted([*kept, *held]) == np.flatnonzero(labels >= 0).tolist()
    assert set(labels[held]) <= set(labels[kept])
