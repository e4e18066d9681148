from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from simcore.artifacts import Embeddings
from simcore.artifacts.embeddings import ROWS_SCHEMA
from simcore.artifacts.parts import PartedArray
from simcore.errors import SimcoreError, SimcoreWarning, UsageError
from simcore.selection import Random, SimCore, parse_budget

SELECTORS = [SimCore(num_clusters=3, num_restarts=1), Random()]


def features(num, dim=4, seed=0):
    return np.random.default_rng(seed).normal(size=(num, dim)) + 1


@pytest.mark.parametrize(
    ("budget", "rows"),
    [(None, None), (0, 0), (7, 7), ("7", 7), ("10%", 20), ("2.5 %", 5), ("0.4%", 0), ("100%", 200), (np.int64(3), 3)],
)
def test_reads_budgets(budget, rows):
    assert parse_budget(budget, 200) == rows


@pytest.mark.parametrize("budget", [-1, "-5%", "many", "5.5", 2.5, "101%", True, "nan", "inf", ""])
def test_refuses_what_is_no_budget(budget):
    with pytest.raises(UsageError, match="budget"):
        parse_budget(budget, 200)


def test_a_share_is_rounded_down_exactly():
    assert parse_budget("1%", 1_281_167) == 12_811
    assert parse_budget("29%", 100) == 29  # 0.29 * 100 is below 29 in floating point


@pytest.mark.filterwarnings("ignore::simcore.errors.SimcoreWarning")
@pytest.mark.parametrize("selector", SELECTORS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.0])
def test_invalid_pool_rows_are_counted_and_never_chosen(selector, bad):
    pool = features(30)
    pool[[3, 17]] = 0.0
    pool[[3, 17], 1] = bad
    with pytest.warns(SimcoreWarning, match="2 of 30 pool rows"):
        chosen = selector.select(features(9, seed=1), pool, budget=28)
    assert chosen.num_invalid == 2
    assert sorted(chosen.indices.tolist()) == [row for row in range(30) if row not in (3, 17)]
    with pytest.warns(SimcoreWarning, match=r"29.*28"):
        assert len(selector.select(features(9, seed=1), pool, budget=29)) == 28


def test_invalid_target_rows_are_left_out_with_a_word():
    target = features(8, seed=1)
    pool = features(30)
    clean = SimCore(num_clusters=3).select(target, pool, budget=5)
    with pytest.warns(SimcoreWarning, match="2 of 10 target rows"):
        dirty = SimCore(num_clusters=3).select(np.vstack([target, [[np.nan] * 4, [0.0] * 4]]), pool, budget=5)
    assert np.array_equal(clean.indices, dirty.indices)


@pytest.mark.parametrize("selector", SELECTORS)
@pytest.mark.parametrize(
    ("target", "pool", "words"),
    [
        (features(5), features(9, dim=6), "target features have 4 .* pool features 6"),
        (features(0), features(9), "target is empty"),
        (features(5), features(0), "pool is empty"),
        (np.ones(4), features(9), "target: features must be a matrix"),
        (features(5), np.ones(4), "pool: features must be a matrix"),
        (features(5), np.zeros((9, 4)), "none of the 9 pool rows"),
        (features(5), [["a"]], "pool"),
    ],
)
def test_refuses_inputs_with_one_clear_line(selector, target, pool, words):
    with pytest.raises(SimcoreError, match=words) as caught:
        selector.select(target, pool, budget=2)
    assert "\n" not in str(caught.value)


def test_a_target_without_directions_is_refused():
    with pytest.raises(SimcoreError, match="none of the 5 target rows"):
        SimCore().select(np.full((5, 4), np.nan), features(9), budget=2)


def test_half_precision_rows_whose_squares_overflow_are_valid_and_infinite_ones_not():
    pool = np.array([[60000.0, 60000.0], [1.0, 0.1], [np.inf, 1.0], [1e-7, 0.0]], np.float16)
    with pytest.warns(SimcoreWarning, match="1 of 4"):
        chosen = SimCore().select(np.array([[1.0, 1.0]]), pool, budget=3)
    assert chosen.indices.tolist() == [0, 1, 3]
    assert chosen.similarities[0] == 1.0


@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1e18, 1e30])
def test_only_directions_matter(scale):
    target, pool = features(9, seed=1), features(40)
    plain = SimCore(num_clusters=4).select(target, pool, budget=12)
    scaled = SimCore(num_clusters=4).select(target * scale, (pool * scale).astype(np.float32), budget=12)
    assert np.array_equal(plain.indices, scaled.indices)


def test_integer_features_and_parted_arrays_are_taken():
    pool = np.random.default_rng(0).integers(-9, 9, size=(50, 5))
    target = np.random.default_rng(1).integers(1, 9, size=(6, 5))
    whole = SimCore(num_clusters=3).select(target, pool, budget=9)
    halves = PartedArray([pool[:21].astype(np.float32), pool[21:].astype(np.float32)])
    assert np.array_equal(whole.indices, SimCore(num_clusters=3).select(target, halves, budget=9).indices)


@pytest.mark.parametrize("selector", SELECTORS)
def test_says_what_it_knows_of_the_picks(selector):
    names = [f"img/{n}.jpg" for n in range(20)]
    labels = pa.array([n % 2 if n != 4 else None for n in range(20)], pa.int64())
    sizes = pa.nulls(20, pa.int32())
    table = pa.Table.from_arrays(
        [pa.array(np.arange(20)), pa.array(names), pa.array(["/" + n for n in names]), labels, sizes, sizes],
        schema=ROWS_SCHEMA,
    )
    pool = Embeddings(features=PartedArray([features(20)]), table=table, classes=("cat", "dog"))
    target = Embeddings.from_array(features(6, seed=3))
    chosen = selector.select(target, pool, budget=20)
    assert chosen.ids == tuple(names[row] for row in chosen.indices)
    assert chosen.uris == tuple("/" + names[row] for row in chosen.indices)
    assert chosen.labels.tolist() == [row % 2 if row != 4 else -1 for row in chosen.indices]
    assert chosen.classes == ("cat", "dog")
    assert chosen.parents == {"target": target.fingerprint, "pool": pool.fingerprint}
    assert chosen.settings["selector"] in ("simcore", "random")
    assert chosen.settings["budget"] == 20


def test_random_needs_a_budget_and_draws_by_its_seed():
    pool = features(50)
    with pytest.raises(UsageError, match="budget"):
        Random().select(features(3), pool)
    first = Random(seed=1).select(features(3), pool, budget=10)
    assert np.array_equal(first.indices, Random(seed=1).select(features(3), pool, budget=10).indices)
    assert not np.array_equal(first.indices, Random(seed=2).select(features(3), pool, budget=10).indices)


def test_random_by_class_takes_classes_in_turn():
    labels = [0] * 30 + [1] * 5 + [2] * 2
    pool = Embeddings.from_array(features(37), labels=labels)
    chosen = Random(by_class=True).select(features(3), pool, budget=12)
    assert np.bincount(chosen.labels).tolist() == [5, 5, 2]
    assert sorted(chosen.labels[:3].tolist()) == [0, 1, 2]
    with pytest.raises(UsageError, match="labels"):
        Random(by_class=True).select(features(3), features(9), budget=4)
