from __future__ import annotations

import numpy as np
import pytest

import simcore.selection._features as features_module
import simcore.selection._similarity as similarity_module
from simcore.artifacts import Embeddings
from simcore.errors import SimcoreWarning, UsageError
from simcore.selection import SimCore, kmeans, peel
from simcore.selection._features import Features


def dense(target, pool, num_clusters):
    """All similarities to the valid pool rows, by the definition, and which rows those are."""
    features = Features(Embeddings.from_array(pool))
    rows = np.flatnonzero(features.valid)
    centroids = kmeans(target, num_clusters).centroids
    return np.stack([features.cosines(rows, centroid) for centroid in centroids]), rows


def random_case(seed):
    rng = np.random.default_rng(seed)
    num, dim = int(rng.integers(5, 4000)), int(rng.integers(2, 40))
    pool = rng.normal(size=(num, dim)) + rng.integers(0, 3)
    if seed % 3 == 0:
        pool = np.round(pool)  # equal rows, some of zeros
    if seed % 4 == 0:
        pool[rng.random(num) < 0.05] = np.nan
    return (
        rng.normal(size=(50, dim)) + 1,
        pool.astype((np.float16, np.float32)[seed % 2]),
        int(rng.integers(1, num + 3)),
    )


@pytest.mark.filterwarnings("ignore::simcore.errors.SimcoreWarning")
@pytest.mark.parametrize("seed", range(24))
def test_equals_the_peel_of_the_whole_matrix_whatever_the_tiles(seed, monkeypatch):
    target, pool, budget = random_case(seed)
    num_clusters = 1 + seed % 8
    monkeypatch.setattr(features_module, "TILE_NUMBERS", 64 << (seed % 10))
    monkeypatch.setattr(similarity_module, "_SAMPLE_STRIDE", 2 + seed)
    matrix, rows = dense(target, pool, num_clusters)
    for stop_ratio in (None, 0.9):
        blocked = SimCore(num_clusters=num_clusters, stop_ratio=stop_ratio).select(target, pool, budget=budget)
        whole = peel(matrix, budget=budget, stop_ratio=stop_ratio)
        assert np.array_equal(blocked.indices, rows[whole.indices])
        assert np.array_equal(blocked.similarities, whole.similarities)
        assert np.array_equal(blocked.clusters, whole.clusters)
        assert blocked.objective == whole.objective


@pytest.mark.parametrize("threads", ["1", "3"])
def test_near_ties_below_fp32s_resolution_are_ordered_alike_in_any_tiling(threads, monkeypatch):
    rng = np.random.default_rng(8)
    base = rng.normal(size=512)
    pool = (base + 1e-6 * rng.normal(size=(3000, 512))).astype(np.float32)  # cosines within some 1e-12 of each other
    matrix, _ = dense(base[None], pool, 1)
    assert len(np.unique(matrix)) < 20
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    for tile_rows in (7, 100, 4096):
        monkeypatch.setattr(features_module, "TILE_NUMBERS", 512 * tile_rows)
        assert np.array_equal(SimCore().select(base[None], pool, budget=40).indices, peel(matrix, budget=40).indices)


@pytest.mark.filterwarnings("ignore::simcore.errors.SimcoreWarning")
def test_duplicate_rows_are_taken_in_order_of_row():
    pool = np.ones((500, 8), np.float16)
    assert SimCore(num_clusters=2).select(np.ones((3, 8)), pool, budget=20).indices.tolist() == list(range(20))


def test_what_ends_it():
    rng = np.random.default_rng(0)
    target, pool = rng.normal(size=(6, 3)), rng.normal(size=(4000, 3))
    alone = SimCore(num_clusters=2).select(target, pool)
    assert alone.stop_reason == "stop"  # 0.95 by default where no budget is given
    assert len(SimCore(num_clusters=2, stop_ratio=0).select(target, pool)) == 300  # the cap of 50 |X|
    assert len(SimCore(num_clusters=2).select(target, pool, budget=3000)) == 3000  # a budget alone: no stop
    both = SimCore(num_clusters=2, stop_ratio=0.95).select(target, pool, budget=3000)
    assert np.array_equal(both.indices[: len(alone)], alone.indices)
    assert both.stop_reason == "stop"


def test_budget_above_the_pool_gives_all_of_it():
    rng = np.random.default_rng(12)
    target, pool = rng.normal(size=(3, 4)) + 1, rng.normal(size=(6, 4)) + 1
    with pytest.warns(SimcoreWarning, match=r"10\b.*\b6\b"):
        chosen = SimCore().select(target, pool, budget=10)
    assert sorted(chosen.indices.tolist()) == list(range(6))
    assert chosen.stop_reason == "exhausted"
    for budget in (6, 4):
        assert len(set(SimCore().select(target, pool, budget=budget).indices.tolist())) == budget
    with pytest.warns(SimcoreWarning, match="budget 0"):
        assert len(SimCore().select(target, pool, budget=0)) == 0


def test_all_similarities_negative_ends_with_a_word_where_a_stop_is_asked_for():
    target, pool = np.array([[1.0, 0.0]]), np.array([[-1.0, 0.1], [-1.0, 0.0]])
    assert SimCore().select(target, pool, budget=1).indices.tolist() == [0]
    with pytest.warns(SimcoreWarning, match="empty"):
        assert len(SimCore().select(target, pool)) == 0


@pytest.mark.parametrize(
    "bad", [{"num_clusters": 0}, {"num_restarts": 0}, {"stop_ratio": -1.0}, {"patience": -1}, {"algorithm": "x"}]
)
def test_refuses_settings_out_of_range_before_any_work(bad):
    with pytest.raises(UsageError):
        SimCore(**bad)


@pytest.mark.parametrize("seed", range(4))
def test_whitened_it_is_the_peel_of_whitened_cosines(seed):
    rng = np.random.default_rng(seed)
    target, pool = rng.normal(size=(9, 7)) + 1, (rng.normal(size=(600, 7)) * np.arange(1, 8) + 1).astype(np.float32)
    chosen = SimCore(whiten=True).select(target, pool, budget=50)
    units, aims = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (pool.astype(np.float64), target))
    spread, axes = np.linalg.eigh(np.cov(units.T, bias=True))
    scale = axes / np.sqrt(spread + 1e-3 * spread[-1])
    units, aims = ((rows - units.mean(axis=0)) @ scale for rows in (units, aims))
    units, aims = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (units, aims))
    np.testing.assert_allclose(chosen.similarities, (aims @ units.T)[chosen.clusters, chosen.indices], atol=2e-3)
    whole = peel(aims @ units.T, budget=50)
    assert len(set(chosen.indices.tolist()) & set(whole.indices.tolist())) >= 48  # the grid swaps near ties
    plain = SimCore().select(target, pool, budget=50)
    assert not np.array_equal(plain.indices, chosen.indices)
