from __future__ import annotations

import numpy as np
import pytest

import simcore.selection._similarity as similarity_module
from simcore.artifacts import Embeddings
from simcore.selection._candidates import LOWEST, RunningTop
from simcore.selection._features import Features, Tile
from simcore.selection._peel import peel_scores
from simcore.selection._screen import Screen, screen_that_pays
from simcore.selection._space import LENGTH, longest_place, whitened_space


def narrow(rng, num, dim=48, num_axes=3, noise=0.02):
    """Rows near a few axes that are the same for every generator, of any length."""
    axes = np.random.default_rng(7).normal(size=(num_axes, dim))
    rows = rng.normal(size=(num, num_axes)) @ axes + noise * rng.normal(size=(num, dim))
    return (rows * rng.uniform(0.1, 10, (num, 1))).astype(np.float32)


def wide(rng, num, dim=48):
    return rng.normal(size=(num, dim)).astype(np.float32)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def as_tile(rows):
    norms = np.linalg.norm(rows, axis=1)
    return Tile(0, rows, np.where(norms > 0, norms, 1).astype(np.float32), norms > 0)


def orthonormal(rng, dim, num_axes):
    return np.linalg.qr(rng.normal(size=(dim, num_axes)))[0].astype(np.float32)


@pytest.mark.parametrize("num_axes", [1, 8, 48])
@pytest.mark.parametrize("seed", range(5))
def test_no_row_that_reaches_a_cut_is_screened_out(seed, num_axes):
    rng = np.random.default_rng(seed)
    centroids = unit(narrow(rng, 10)).astype(np.float32)
    rows = np.concatenate([narrow(rng, 300), wide(rng, 300), 3 * centroids, np.zeros((1, 48), np.float32)])
    tile = as_tile(rows)
    exact = centroids.astype(np.float64) @ (rows / tile.norms[:, None]).T.astype(np.float64)
    screen = Screen(centroids, orthonormal(rng, 48, num_axes))
    for rank in (1, 5, 50):
        cuts = np.sort(exact, axis=1)[:, -rank].astype(np.float32)  # met by one row exactly
        reaching = (exact >= cuts[:, None].astype(np.float64) - 1e-7).any(axis=0)
        passed = screen.may_reach(tile, cuts)
        assert not (reaching & ~passed).any()


def test_rows_far_from_all_centroids_are_screened_out():
    rng = np.random.default_rng(0)
    centroids = unit(narrow(rng, 20)).astype(np.float32)
    axes = np.ascontiguousarray(np.linalg.svd(centroids, full_matrices=False)[2][:8].T)
    passed = Screen(centroids, axes).may_reach(as_tile(wide(rng, 1000)), np.full(20, 0.9, np.float32))
    assert not passed.any()


def test_a_screen_is_used_where_it_pays_alone():
    rng = np.random.default_rng(0)
    sample, cuts = as_tile(wide(rng, 500, 256)), np.full(100, 0.8, np.float32)
    spread, close = (unit(draw(rng, 100, 256)).astype(np.float32) for draw in (wide, narrow))
    assert screen_that_pays(close, sample, cuts) is not None
    assert screen_that_pays(spread, sample, cuts) is None
    assert screen_that_pays(close, sample, np.full(100, -1, np.float32)) is None  # all rows would pass
    assert screen_that_pays(close[:2], sample, cuts) is None  # two centroids cost less than any screen


def test_places_longer_than_a_unit_vector_are_not_screened_out():
    """On the grid of a space, rounding makes rows longer; here by 0.09 %, mostly beside the axis."""
    dim = 75
    row = np.rint(np.full(dim, LENGTH / dim**0.5)).astype(np.float32)  # 465.6 becomes 466
    long = np.linalg.norm(row.astype(np.float64)) / LENGTH
    assert 1 + 5e-4 < long <= longest_place(dim)
    centroid = (row / np.linalg.norm(row))[None]
    axis = np.eye(dim, 1, dtype=np.float32)
    tile = Tile(0, row[None], np.full(1, LENGTH, np.float32), np.ones(1, bool), longest_place(dim))
    assert Screen(centroid, axis).may_reach(tile, np.float32([long])).all()
    assert not Screen(centroid, axis).may_reach(tile._replace(longest=1.0), np.float32([long])).any()


@pytest.mark.parametrize("whitened", [False, True])
@pytest.mark.parametrize("stored", [np.float16, np.float32])
def test_the_same_rows_are_chosen_with_and_without_a_screen(stored, whitened, monkeypatch):
    rng = np.random.default_rng(1)
    pool = np.concatenate([wide(rng, 60_000, 64), narrow(rng, 12_000, 64, noise=0.5)]).astype(stored)
    pool[::1000] = 0
    features = Features(Embeddings.from_array(pool))
    centroids = unit(narrow(rng, 60, 64)).astype(np.float32)
    if whitened:
        features = features.placed(whitened_space(features))
        centroids = unit(features.some(np.arange(60_001, 60_061)).rows)
    passed = []

    def always(centroids, sample, cuts):
        """Whitened features lie along no few directions, so that no screen pays; it must be right all the same."""
        screen = Screen(centroids, orthonormal(rng, 64, 56)) if whitened else screen_that_pays(centroids, sample, cuts)
        passed.append(screen.may_reach(sample, cuts).mean())
        return screen

    def chosen(screen):
        monkeypatch.setattr(similarity_module, "screen_that_pays", screen)
        scores = features.scores(centroids, 900)
        scores.prepare()
        return peel_scores(scores, 900, stop_ratio=None, patience=20)

    screened, plain = chosen(always), chosen(lambda *_: None)
    assert max(passed) < 0.9
    assert np.array_equal(screened.indices, plain.indices)
    assert np.array_equal(screened.similarities, plain.similarities)
    assert screened.objective == plain.objective


@pytest.mark.parametrize("seed", range(6))
def test_the_running_top_holds_the_largest_whatever_the_tiles(seed):
    rng = np.random.default_rng(seed)
    num_rows, num_columns, depth = int(rng.integers(1, 6)), int(rng.integers(50, 400)), int(rng.integers(1, 20))
    matrix = rng.integers(0, 40, (num_rows, num_columns)).astype(np.float32)  # with ties
    best = RunningTop(depth, np.full(num_rows, LOWEST, np.float32))
    for first in range(0, num_columns, 17):
        columns = np.arange(first, min(first + 17, num_columns))
        best.add(best.above(matrix[:, columns], columns))
    for row, held in zip(matrix, best.candidates(), strict=True):
        assert np.array_equal(held.values, row[held.indices])
        assert np.array_equal(held.values, np.sort(row)[::-1][: len(held.values)])
        assert len(held.values) >= min(depth, num_columns)
        assert len(np.unique(held.indices)) == len(held.indices)
        assert np.delete(row, held.indices).max(initial=LOWEST) <= held.floor


def test_cosines_of_many_pairs_are_those_of_each_alone():
    rng = np.random.default_rng(0)
    features = Features(Embeddings.from_array(wide(rng, 5_000, 129).astype(np.float16)))
    units = unit(wide(rng, 7, 129)).astype(np.float32)
    rows, owners = rng.integers(0, 5_000, 20_000), rng.integers(0, 7, 20_000)
    together = features.cosines(rows, units, owners)
    alone = np.stack([features.cosines(np.arange(5_000), one) for one in units])
    assert np.array_equal(together, alone[owners, rows])
