from __future__ import annotations

import numpy as np
import pytest

import simcore.selection.facility_location as module
from simcore.errors import UsageError
from simcore.selection.facility_location import FacilityLocation


def cosines(target, pool):
    target, pool = (np.asarray(rows, np.float64) for rows in (target, pool))
    target = target / np.linalg.norm(target, axis=1, keepdims=True)
    return target @ (pool / np.linalg.norm(pool, axis=1, keepdims=True)).T


def dense_greedy(similarity, budget, cap=1):
    """Plain greedy on the whole matrix: try every row at every pick."""
    weights = np.maximum(similarity, 0.0)
    picks: list[int] = []
    while len(picks) < budget:
        best_of = -np.sort(-weights[:, picks], axis=1) if picks else np.zeros((len(weights), 0))
        cut = best_of[:, cap - 1] if best_of.shape[1] >= cap else np.zeros(len(weights))
        gains = np.maximum(weights - cut[:, None], 0.0).sum(axis=0)
        gains[picks] = -1.0
        if gains.max() <= 1e-9:
            cap += max(1, cap // 4)
            continue
        picks.append(int(gains.argmax()))
    return picks


def value(similarity, picks):
    return np.maximum(similarity[:, picks], 0.0).max(axis=1).sum()


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("cap", [1, 3])
def test_equals_the_plain_greedy_of_the_whole_matrix(seed, cap):
    rng = np.random.default_rng(seed)
    target, pool = rng.normal(size=(1 + 3 * seed, 8)), rng.normal(size=(150, 8))
    chosen = FacilityLocation(cap=cap).select(target, pool, budget=60)
    assert chosen.indices.tolist() == dense_greedy(cosines(target, pool), 60, cap)


def test_the_objective_is_that_of_a_dense_greedy_at_the_size_of_the_report():
    rng = np.random.default_rng(13)
    pool = rng.normal(size=(2000, 32)).astype(np.float16)
    target = rng.normal(size=(500, 32)).astype(np.float16)
    similarity = cosines(target, pool)
    chosen = FacilityLocation().select(target, pool, budget=120)
    assert value(similarity, chosen.indices) == pytest.approx(
        value(similarity, dense_greedy(similarity, 120)), rel=1e-6
    )


def test_beats_the_published_rounds_on_the_objective_they_state():
    from simcore.selection import SimCore

    rng = np.random.default_rng(3)
    target, pool = rng.normal(size=(40, 12)), rng.normal(size=(800, 12))
    similarity = cosines(target, pool)
    greedy = FacilityLocation().select(target, pool, budget=25)
    rounds = SimCore(num_clusters=40).select(target, pool, budget=25)
    assert value(similarity, greedy.indices) > value(similarity, rounds.indices)


def test_short_lists_give_the_greedy_of_the_sparse_matrix():
    rng = np.random.default_rng(5)
    target, pool = rng.normal(size=(30, 8)), rng.normal(size=(200, 8))
    similarity = cosines(target, pool)
    sparse = np.where(similarity >= -np.sort(-similarity, axis=1)[:, 9:10], similarity, 0.0)
    chosen = FacilityLocation(num_near=10).select(target, pool, budget=40)
    assert chosen.indices.tolist() == dense_greedy(sparse, 40)


def test_lists_are_made_anew_when_they_are_used_up(monkeypatch):
    rng = np.random.default_rng(6)
    target, pool = rng.normal(size=(3, 4)), rng.normal(size=(90, 4))
    chosen = FacilityLocation(num_near=5).select(target, pool, budget=90)
    assert sorted(chosen.indices.tolist()) == list(range(90))
    assert np.all(np.diff(chosen.rounds) >= 0)
    monkeypatch.setattr(module, "MAX_ENTRIES", 3 * 64)
    assert len(FacilityLocation().select(target, pool, budget=80)) == 80


def test_tells_the_nearest_target_row_of_each_pick():
    rng = np.random.default_rng(7)
    target, pool = rng.normal(size=(6, 5)), rng.normal(size=(50, 5))
    similarity = cosines(target, pool)
    chosen = FacilityLocation().select(target, pool, budget=10)
    assert chosen.clusters.tolist() == similarity[:, chosen.indices].argmax(axis=0).tolist()
    np.testing.assert_allclose(chosen.similarities, similarity[:, chosen.indices].max(axis=0), rtol=1e-5)
    assert chosen.objective[-1] == pytest.approx(
        -np.sort(-np.maximum(similarity[:, chosen.indices], 0), axis=1)[:, : chosen.rounds[-1]].sum() / 6, rel=1e-6
    )


def test_covers_centroids_where_asked():
    rng = np.random.default_rng(9)
    chosen = FacilityLocation(num_clusters=4).select(rng.normal(size=(50, 6)), rng.normal(size=(80, 6)), budget=12)
    assert chosen.clusters.max() < 4


@pytest.mark.parametrize("bad", [{"cap": 0}, {"num_near": 0}, {"num_clusters": 0}])
def test_refuses_settings_out_of_range(bad):
    with pytest.raises(UsageError):
        FacilityLocation(**bad)
