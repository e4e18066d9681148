"""What every registered selector must hold; a new one is covered without a change here."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from simcore import registry
from simcore.artifacts import Embeddings, Selection
from simcore.errors import SimcoreError, SimcoreWarning, UsageError
from simcore.settings import as_dict, build

NAMES = registry.names("selection")
POOL, TARGET = 160, 20


@pytest.fixture(params=NAMES)
def selector(request):
    return registry.find("selection", request.param)()


def made(num, seed, dim=6):
    rng = np.random.default_rng(seed)
    return Embeddings.from_array(rng.normal(size=(num, dim)) + 0.5, labels=rng.integers(0, 4, num))


@pytest.fixture
def target():
    return made(TARGET, 1)


@pytest.fixture
def pool():
    return made(POOL, 2)


def test_is_a_frozen_keyword_only_dataclass_whose_settings_are_explained(selector):
    assert dataclasses.is_dataclass(selector)
    with pytest.raises(dataclasses.FrozenInstanceError):
        selector.anything = 1
    assert all(field.metadata.get("help") for field in dataclasses.fields(selector))
    assert build(type(selector), as_dict(selector)) == selector


def test_fills_the_budget_with_distinct_rows(selector, target, pool):
    chosen = selector.select(target, pool, budget=40)
    assert len(chosen) == len(set(chosen.indices.tolist())) == 40
    assert chosen.indices.min() >= 0
    assert chosen.indices.max() < POOL
    assert chosen.stop_reason == "budget"
    assert chosen.settings["selector"] == registry.name_of(selector)


def test_a_smaller_budget_is_a_prefix(selector, target, pool):
    whole = selector.select(target, pool, budget=90)
    for budget in (1, 17, 40, 89):
        assert np.array_equal(selector.select(target, pool, budget=budget).indices, whole.indices[:budget])


def test_same_inputs_give_the_same_picks_on_any_number_of_threads(selector, target, pool, monkeypatch):
    first = selector.select(target, pool, budget=30)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    again = selector.select(target, pool, budget=30)
    assert np.array_equal(first.indices, again.indices)
    assert np.array_equal(first.similarities, again.similarities, equal_nan=True)
    assert first.objective == again.objective


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_leaves_out_invalid_rows_and_says_so(selector, target, pool, bad):
    features = np.array(pool.features)
    features[[2, 50, 159]] = bad
    with pytest.warns(SimcoreWarning, match="3 of 160 pool rows"):
        chosen = selector.select(target, Embeddings.from_array(features, labels=pool.labels), budget=POOL - 3)
    assert chosen.num_invalid == 3
    assert not {2, 50, 159} & set(chosen.indices.tolist())
    assert len(chosen) == POOL - 3


def test_a_budget_above_the_pool_is_clamped_and_named(selector, target, pool):
    with pytest.warns(SimcoreWarning, match=r"170\b.*\b160\b"):
        chosen = selector.select(target, pool, budget=170)
    assert sorted(chosen.indices.tolist()) == list(range(POOL))
    assert chosen.stop_reason == "exhausted"


@pytest.mark.filterwarnings("ignore::simcore.errors.SimcoreWarning")
@pytest.mark.parametrize(
    ("target_rows", "pool_rows", "budget"),
    [
        (np.ones((4, 3)), np.ones((9, 3)), 5),  # all similarities equal
        (np.ones((4, 3)), -np.ones((9, 3)), 5),  # all as negative as can be
        (np.eye(3), np.eye(3)[[0, 1]], 1),  # fewer pool rows than centroids, budget of one
        (np.ones((1, 1)), np.ones((1, 1)), 1),  # one of each, one dimension
        (np.ones((4, 3), np.int64), np.arange(27).reshape(9, 3), 9),
        (np.full((4, 3), 6e4, np.float16), np.full((9, 3), 6e4, np.float16), 4),
    ],
)
def test_degenerate_inputs_still_fill_the_budget(selector, target_rows, pool_rows, budget):
    pool = Embeddings.from_array(pool_rows, labels=np.zeros(len(pool_rows)))
    chosen = selector.select(Embeddings.from_array(target_rows, labels=np.zeros(len(target_rows))), pool, budget=budget)
    assert len(set(chosen.indices.tolist())) == budget


def test_a_budget_of_zero_is_empty_with_a_word(selector, target, pool):
    with pytest.warns(SimcoreWarning, match="budget 0"):
        assert len(selector.select(target, pool, budget=0)) == 0


def test_refuses_dims_that_differ(selector, target):
    with pytest.raises(SimcoreError, match=r"6 .*5"):
        selector.select(target, made(30, 3, dim=5), budget=2)


def test_a_saved_selection_reads_back(selector, target, pool, tmp_path):
    chosen = selector.select(target, pool, budget=25)
    chosen.save(tmp_path / "S.parquet")
    read = Selection.load(tmp_path / "S.parquet")
    assert np.array_equal(read.indices, chosen.indices)
    assert np.array_equal(read.similarities, chosen.similarities, equal_nan=True)
    assert read.settings["selector"] == registry.name_of(selector)
    assert read.objective == chosen.objective


def test_it_says_whether_it_needs_a_budget(selector, target, pool):
    if selector.needs_budget:
        with pytest.raises(UsageError, match="needs a budget"):
            selector.check_budget(None)
        with pytest.raises(UsageError, match="needs a budget"):
            selector.select(target, pool)
    else:
        selector.check_budget(None)
        assert len(selector.select(target, pool)) > 0
    selector.check_budget("5%")
