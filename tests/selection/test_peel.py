from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from simcore.errors import SimcoreError, SimcoreWarning, UsageError
from simcore.selection import peel

_spec = importlib.util.spec_from_file_location("literal_peel", Path(__file__).with_name("literal_peel.py"))
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
literal_peel = _module.literal_peel


def quiet_peel(*args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SimcoreWarning)
        return peel(*args, **kwargs)


def random_case(seed):
    rng = np.random.default_rng(seed)
    num_clusters, num_pool = int(rng.integers(1, 12)), int(rng.integers(1, 80))
    if rng.random() < 0.1:
        num_clusters = num_pool + int(rng.integers(0, 4))  # more centroids than rows
    matrix = rng.normal(size=(num_clusters, num_pool))
    kind = seed % 5
    if kind == 1:
        matrix = np.round(matrix, 1)  # ties
    elif kind == 2:
        matrix = matrix[:1] + 0.05 * matrix  # centroids agree: duplicates in most rounds
    elif kind == 3:
        matrix = -np.abs(matrix)
    elif kind == 4:
        matrix = np.abs(matrix) + 0.5
    stop = [None, 0.95, 0.5, 1.0, 0.0][int(rng.integers(5))]
    patience = [0, 1, 2, 20, 10_000][int(rng.integers(5))]
    budget = [num_pool, num_pool + 5, 1, num_pool // 2 + 1, int(rng.integers(1, num_pool + 1))][int(rng.integers(5))]
    return matrix.astype(np.float32), {"budget": budget, "stop_ratio": stop, "patience": patience}


@pytest.mark.parametrize("block", range(10))
def test_agrees_with_the_literal_statement_on_500_random_matrices(block):
    for seed in range(50 * block, 50 * block + 50):
        matrix, options = random_case(seed)
        chosen = quiet_peel(matrix, **options)
        picks, reason = literal_peel(matrix, **options)
        assert chosen.indices.tolist() == picks, (seed, options)
        assert (chosen.stop_reason == "stop") == (reason == "stop")


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.float32, (4, 30), elements=st.sampled_from([-0.5, 0.0, 0.25, 0.5, 0.75])),
    st.integers(1, 35),
    st.sampled_from([None, 0.95]),
    st.sampled_from([1, 3]),
)
def test_agrees_with_the_literal_statement_where_nearly_all_is_tied(matrix, budget, stop_ratio, patience):
    options = {"budget": budget, "stop_ratio": stop_ratio, "patience": patience}
    assert quiet_peel(matrix, **options).indices.tolist() == literal_peel(matrix, **options)[0]


@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize("budget", [900, 20_000, 60_000])
def test_agrees_where_queues_run_dry_and_rows_are_sampled(correlated, budget):
    rng = np.random.default_rng(5)
    matrix = rng.normal(size=(7, 60_000)).astype(np.float32)
    if correlated:
        matrix = matrix[:1] + 0.1 * matrix
    assert quiet_peel(matrix, budget=budget).indices.tolist() == literal_peel(matrix, budget=budget)[0]


def test_tells_round_cluster_and_similarity_of_each_pick():
    matrix = np.array([[0.9, 0.8, 0.1, 0.2], [0.95, 0.3, 0.6, 0.2]], np.float32)
    chosen = peel(matrix, budget=3)
    # Round 1: both centroids want row 0 (centroid 1 is nearer); round 2: rows 1 and 2.
    assert chosen.indices.tolist() == [0, 1, 2]
    assert chosen.rounds.tolist() == [1, 2, 2]
    assert chosen.clusters.tolist() == [1, 0, 1]
    assert chosen.similarities.tolist() == pytest.approx([0.95, 0.8, 0.6])
    assert chosen.objective == pytest.approx(((0.9 + 0.95) / 2, (0.8 + 0.6) / 2))
    assert chosen.stop_reason == "budget"


def test_the_stop_discards_its_round_and_says_where_it_fired():
    matrix = np.array([[1.0, 0.99, 0.97, 0.5, 0.4]])
    chosen = peel(matrix, budget=5, stop_ratio=0.95, patience=1)
    assert (chosen.indices.tolist(), chosen.stop_reason) == ([0, 1, 2], "stop")
    assert chosen.settings["stop"] == {"round": 4, "objective": 0.5, "threshold": 0.95}
    late = peel(matrix, budget=5, stop_ratio=0.95, patience=3)
    assert late.settings["stop"]["threshold"] == pytest.approx(0.97 * 0.95)
    assert peel(matrix, budget=5, stop_ratio=0.95, patience=6).stop_reason == "budget"


def test_negative_similarities_stop_at_once_with_a_word():
    with pytest.warns(SimcoreWarning, match="empty.*negative"):
        chosen = peel(-np.ones((2, 5)), budget=3, stop_ratio=0.95)
    assert (len(chosen), chosen.stop_reason) == (0, "stop")
    assert len(peel(-np.ones((2, 5)), budget=3)) == 3


def test_a_budget_above_the_pool_is_clamped_with_both_numbers_named():
    with pytest.warns(SimcoreWarning, match=r"10\b.*\b6\b"):
        chosen = peel(np.random.default_rng(0).normal(size=(3, 6)), budget=10)
    assert sorted(chosen.indices.tolist()) == list(range(6))
    assert chosen.stop_reason == "exhausted"


def test_a_budget_of_zero_gives_none_with_a_word():
    with pytest.warns(SimcoreWarning, match="budget 0"):
        chosen = peel(np.ones((2, 4)), budget=0)
    assert len(chosen) == 0
    assert chosen.indices.dtype == np.int64


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_refuses_values_that_are_not_finite_and_names_their_rows(value):
    matrix = np.ones((3, 50), np.float32)
    matrix[1, [7, 11]] = value
    with pytest.raises(SimcoreError, match=r"2 pool rows \(first: 7, 11\) in 1 centroids \(first: 1\)"):
        peel(matrix, budget=3)


def test_large_finite_values_whose_sum_overflows_are_taken():
    assert len(peel(np.full((1, 8), 3e38, np.float32), budget=2)) == 2


@pytest.mark.parametrize("matrix", [np.ones(5), np.ones((2, 0)), np.ones((0, 5)), np.ones((2, 2, 2)), [["a"]]])
def test_refuses_what_is_no_matrix(matrix):
    with pytest.raises(SimcoreError):
        peel(matrix, budget=1)


@pytest.mark.parametrize("bad", [{"budget": -1}, {"stop_ratio": -0.1}, {"stop_ratio": np.nan}, {"patience": -1}])
def test_refuses_settings_out_of_range(bad):
    with pytest.raises(UsageError):
        peel(np.ones((2, 4)), **{"budget": 2, **bad})


def test_integers_and_half_precision_are_taken_as_they_are():
    counts = np.array([[3, 1, 2], [1, 2, 3]])
    assert peel(counts, budget=2).indices.tolist() == [0, 2]
    assert peel(counts.astype(np.float16), budget=2).indices.tolist() == [0, 2]


def test_the_number_of_threads_changes_nothing(monkeypatch):
    matrix = np.random.default_rng(3).normal(size=(9, 40_000)).astype(np.float32)
    answers = []
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        answers.append(peel(matrix, budget=5_000))
    for other in answers[1:]:
        assert np.array_equal(other.indices, answers[0].indices)
        assert other.objective == answers[0].objective
