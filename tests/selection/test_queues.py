"""The order of a queue against a stable sort of the whole row."""

from __future__ import annotations

import numpy as np
import pytest

from simcore.selection._queues import top


def stable(row: np.ndarray, depth: int, taken: np.ndarray | None = None) -> np.ndarray:
    order = np.argsort(-row.astype(np.float64), kind="stable")
    return (order if taken is None else order[~taken[order]])[:depth]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("num", [1, 7, 300, 20_000, 60_000])
def test_top_is_a_stable_sort_whatever_the_type(dtype, num):
    rng = np.random.default_rng(num)
    values = rng.standard_normal(num) * 10.0 ** rng.integers(-6, 4, num)
    row = np.where(rng.random(num) < 0.3, np.round(values), values).astype(dtype)  # zeros of both signs, and ties
    for depth in (1, num // 3 + 1, num):
        np.testing.assert_array_equal(top(row, depth), stable(row, depth))


def test_numbers_at_the_ends_of_what_a_type_holds_are_in_order():
    ends = np.finfo(np.float32)
    row = np.array([0.0, ends.min, -ends.tiny, ends.max, -0.0, ends.smallest_subnormal, -1.0, ends.tiny], np.float32)
    assert top(row, len(row)).tolist() == [3, 7, 5, 0, 4, 2, 6, 1]


def test_all_equal_come_by_position_and_taken_ones_not_at_all():
    taken = np.zeros(40_000, bool)
    taken[::2] = True
    assert top(np.full(40_000, -0.5, np.float32), 3, taken).tolist() == [1, 3, 5]
    assert top(np.ones(4, np.float32), 2, np.ones(4, bool)).tolist() == []


def test_a_row_of_which_most_is_taken_is_ranked_to_its_end():
    rng = np.random.default_rng(0)
    row, taken = rng.standard_normal(50_000).astype(np.float32), rng.random(50_000) < 0.999
    num_free = int((~taken).sum())
    np.testing.assert_array_equal(top(row, num_free, taken), stable(row, num_free, taken))
