"""Each selector against its own formula, written out in full on small inputs."""

from __future__ import annotations

import numpy as np
import pytest

import simcore.selection._nearest as nearest_module
import simcore.selection.k_center as k_center_module
from simcore.artifacts import Embeddings
from simcore.errors import SimcoreWarning, UsageError
from simcore.selection._features import Features
from simcore.selection._ranking import in_turns
from simcore.selection._space import LENGTH, Space, whitened_space
from simcore.selection.density_ratio import DensityRatio
from simcore.selection.k_center import KCenter
from simcore.selection.linear_classifier import LinearClassifier
from simcore.selection.oracle import Oracle
from simcore.selection.top import Top


def normal(num, dim, seed, shift=0.4):
    return np.random.default_rng(seed).normal(size=(num, dim)) + shift


def unit(rows):
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def grid(rows):
    return np.rint(rows * LENGTH).astype(np.int64)


def whitened(target, pool, ridge=1e-3):
    """Centre and whiten unit rows by the covariance of the pool, with plain numpy, and normalise again."""
    units = unit(pool)
    spread, axes = np.linalg.eigh(np.cov(units.T, bias=True))
    scale = axes / np.sqrt(spread + ridge * spread[-1])
    return tuple(unit((unit(rows) - units.mean(axis=0)) @ scale) for rows in (target, pool))


def test_products_on_the_grid_are_exact_in_fp32():
    rows = unit(normal(50, 2048, 0, shift=5.0))  # all nearly alike: the largest sums there are
    placed = Space().place(rows)
    exact = grid(rows) @ grid(rows).T
    assert exact.max() <= 2**24
    assert np.array_equal((placed @ placed.T).astype(np.int64), exact)
    order = np.random.default_rng(1).permutation(2048)
    assert np.array_equal(placed @ placed.T, placed[:, order] @ placed[:, order].T)
    np.testing.assert_allclose(exact / LENGTH**2, rows @ rows.T, atol=1e-3)


@pytest.mark.parametrize("tile_rows", [16, 100, 5000])
def test_whitening_is_that_of_the_pools_covariance_whatever_the_tiles(tile_rows, monkeypatch):
    pool = normal(700, 12, 0)
    pool[5] = np.nan
    features = Features(Embeddings.from_array(pool))
    monkeypatch.setattr("simcore.selection._features.TILE_NUMBERS", 12 * tile_rows)
    space = whitened_space(features)
    target, _ = whitened(normal(9, 12, 1), np.delete(pool, 5, axis=0))
    placed = space.place(unit(normal(9, 12, 1))) / LENGTH
    np.testing.assert_allclose(placed @ placed.T, target @ target.T, atol=2e-3)
    if tile_rows == 16:
        expected = space.whitening
        monkeypatch.setattr("simcore.selection._features.TILE_NUMBERS", 12 * 333)
        assert np.array_equal(whitened_space(features).whitening, expected)


def test_a_row_read_in_a_tile_or_alone_lies_at_the_same_place():
    pool = normal(300, 7, 3).astype(np.float16)
    features = Features(Embeddings.from_array(pool))
    for space in (Space(), whitened_space(features)):
        whole, valid = space.read(features, 0, 300)
        assert valid.all()
        assert np.array_equal(whole[[250, 3]], space.take(features, np.array([250, 3])))


def density(target, pool, sample, num_near, num_far):
    """Mean cosine to the nearest x minus mean cosine to the nearest sampled pool rows other than the row itself."""
    target, pool = grid(target), grid(pool)
    scores = []
    for row, features in enumerate(pool):
        near = np.sort(target @ features)[-num_near:].mean()
        far = np.sort([pool[other] @ features for other in sample if other != row])[-num_far:].mean()
        scores.append((near - far) / LENGTH**2)
    return np.array(scores)


@pytest.mark.parametrize("whiten", [False, True])
def test_density_ratio_is_its_formula(whiten):
    target, pool = normal(15, 6, 1), normal(200, 6, 2, shift=0.0)
    selector = DensityRatio(num_near=4, num_background_near=7, num_background=60, whiten=whiten, seed=3)
    chosen = selector.select(target, pool, budget=50)
    sample = np.sort(np.random.default_rng(3).permutation(200)[:60])
    spaces = whitened(target, pool) if whiten else (unit(target), unit(pool))
    scores = density(*spaces, sample, 4, 7)
    found, expected = scores[chosen.indices], np.sort(scores)[::-1][:50]
    # Whitening rounds the map itself, so picks may swap where scores differ by less than that.
    np.testing.assert_allclose(found, expected, atol=1e-3 if whiten else 1e-12)
    assert chosen.objective[0] == pytest.approx(expected.mean(), abs=1e-3)


def test_density_ratio_prefers_the_targets_side_to_hubs():
    rng = np.random.default_rng(0)
    axis = np.eye(16)
    target = axis[0] + 0.05 * rng.normal(size=(40, 16))
    hubs = axis[0] + 0.02 * rng.normal(size=(30, 16))
    crowd = axis[1] + 0.3 * axis[0] + 0.1 * rng.normal(size=(500, 16))
    chosen = DensityRatio(whiten=False, num_background=200).select(target, np.vstack([crowd, hubs]), budget=30)
    assert (chosen.indices >= 500).mean() > 0.9


@pytest.mark.parametrize("num_near", [1, 3])
def test_top_is_its_formula(num_near):
    target, pool = normal(12, 5, 4), normal(300, 5, 5)
    chosen = Top(num_near=num_near).select(target, pool, budget=40)
    products = grid(unit(pool)) @ grid(unit(target)).T
    scores = np.sort(products, axis=1)[:, -num_near:].mean(axis=1)
    assert chosen.indices.tolist() == np.lexsort((np.arange(300), -scores))[:40].tolist()
    np.testing.assert_allclose(
        chosen.similarities, (unit(pool) @ unit(target).T).max(axis=1)[chosen.indices], atol=1e-3
    )


@pytest.mark.parametrize("selector", [DensityRatio(num_background=90), Top(), LinearClassifier(num_background=90)])
def test_tiles_and_threads_change_nothing(selector, monkeypatch):
    target, pool = normal(20, 24, 1), normal(2500, 24, 2).astype(np.float16)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    expected = selector.select(target, pool, budget=300)
    monkeypatch.setattr("simcore.selection._features.TILE_NUMBERS", 24 * 37)
    monkeypatch.setattr(nearest_module, "_PRODUCT_NUMBERS", 900)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    again = selector.select(target, pool, budget=300)
    assert np.array_equal(expected.indices, again.indices)
    assert np.array_equal(expected.similarities, again.similarities)
    assert expected.objective == again.objective


def test_turns_let_every_group_pick_by_its_weight():
    order, groups = np.arange(12), np.array([0] * 8 + [1] * 4)
    assert in_turns(order, groups, np.array([1.0, 1.0])).tolist() == [0, 8, 1, 9, 2, 10, 3, 11, 4, 5, 6, 7]
    assert groups[in_turns(order, groups, np.array([3.0, 1.0]))[:8]].tolist() == [0, 0, 1, 0, 0, 0, 1, 0]
    assert in_turns(order[::-1], groups, np.array([1.0, 1.0]))[:4].tolist() == [11, 7, 10, 6]


@pytest.mark.parametrize("quota", ["cluster", "x"])
@pytest.mark.parametrize("kind", [DensityRatio, LinearClassifier])
def test_a_quota_starves_no_mode(kind, quota):
    rng = np.random.default_rng(0)
    axis = np.eye(8)
    target = np.vstack([axis[0] + 0.02 * rng.normal(size=(30, 8)), axis[1] + 0.02 * rng.normal(size=(30, 8))])
    near_0 = axis[0] + 0.05 * rng.normal(size=(200, 8))
    near_1 = axis[1] + 0.8 * axis[2] + 0.05 * rng.normal(size=(200, 8))
    pool = np.vstack([near_0, near_1, 0.5 * rng.normal(size=(800, 8))])
    options = {"num_background": 300, "whiten": False, "num_clusters": 2}
    share = {
        name: (kind(quota=name, **options).select(target, pool, budget=60).clusters == 0).mean()
        for name in ("none", quota)
    }
    assert 0.35 < share[quota] < 0.65
    assert abs(share["none"] - 0.5) > abs(share[quota] - 0.5) + 0.1


def test_precision_stops_density_ratio_near_where_it_truly_falls():
    rng = np.random.default_rng(0)
    axis = np.eye(16)
    draw = lambda num: axis[0] + 0.35 * rng.normal(size=(num, 16))  # noqa: E731
    target, alike, other = draw(300), draw(400), 0.6 * rng.normal(size=(3600, 16)) + 0.5 * axis[1]
    pool = np.vstack([alike, other])
    chosen = DensityRatio(min_precision=0.8, num_background=1000).select(target, pool)
    assert chosen.stop_reason == "stop"
    assert 0.6 < (chosen.indices < 400).mean() < 0.95
    assert 0.05 < chosen.settings["stop"]["target_share"] < 0.16  # in truth 0.1
    known = DensityRatio(min_precision=0.8, target_share=0.1, num_background=1000).select(target, pool)
    assert 0.7 < (known.indices < 400).mean() < 0.9
    capped = DensityRatio(min_precision=0.8, num_background=1000).select(target, pool, budget=50)
    assert (len(capped), capped.stop_reason) == (50, "budget")
    assert np.array_equal(capped.indices, chosen.indices[:50])


def test_an_unreachable_precision_ends_empty_with_a_word():
    target, pool = normal(9, 5, 1), normal(200, 5, 2)
    with pytest.warns(SimcoreWarning, match="empty"):
        chosen = DensityRatio(min_precision=1.0, target_share=0.001).select(target, pool)
    assert len(chosen) == 0


def test_linear_classifier_finds_the_side_of_the_target():
    rng = np.random.default_rng(0)
    target = rng.normal(size=(80, 10)) + 4 * np.eye(10)[0]
    pool = np.vstack([rng.normal(size=(60, 10)) + 4 * np.eye(10)[0], rng.normal(size=(900, 10))])
    chosen = LinearClassifier(num_background=300).select(target, pool, budget=60)
    assert (chosen.indices < 60).mean() > 0.7


def test_linear_classifier_judges_a_sampled_row_by_the_model_that_did_not_train_on_it():
    from sklearn.linear_model import LogisticRegression

    target, pool = normal(30, 6, 1), normal(100, 6, 2, shift=0.0)
    selector = LinearClassifier(
        num_background=50, inverse_penalty=1.0, whiten=False, seed=4
    )  # both samples together are the whole pool
    chosen = selector.select(target, pool, budget=100)
    folds = np.random.default_rng([4, 1]).permutation(100) % 2
    scores = np.zeros(100)
    for fold in range(2):
        rows = np.vstack([grid(unit(target)), grid(unit(pool))[folds == fold]]) / LENGTH
        labels = np.repeat([1, 0], [30, 50])
        weights = LogisticRegression(C=1.0, class_weight="balanced", max_iter=1000).fit(rows, labels).coef_[0]
        scores[folds != fold] = (grid(unit(pool)) @ grid(unit(weights[None]))[0])[folds != fold]
    assert chosen.indices.tolist() == np.lexsort((np.arange(100), -scores)).tolist()


@pytest.mark.parametrize("at_once", [3, 40, 2048])
@pytest.mark.parametrize("cover_target", [True, False])
def test_k_center_is_farthest_first(at_once, cover_target, monkeypatch):
    monkeypatch.setattr(k_center_module, "_AT_ONCE", at_once)
    target, pool = normal(5, 4, 1), normal(120, 4, 2, shift=0.0)
    chosen = KCenter(cover_target=cover_target).select(target, pool, budget=60)
    rows = grid(unit(pool))
    closest = (rows @ grid(unit(target)).T).max(axis=1) if cover_target else np.full(120, -(LENGTH**2))
    picks = []
    for _ in range(60):
        free = np.where(np.isin(np.arange(120), picks), np.iinfo(np.int64).max, closest)
        picks.append(int(free.argmin()))
        closest = np.maximum(closest, rows @ rows[picks[-1]])
    assert chosen.indices.tolist() == picks


@pytest.mark.parametrize("at_once", [2, 2048])
def test_k_center_breaks_ties_by_row(at_once, monkeypatch):
    monkeypatch.setattr(k_center_module, "_AT_ONCE", at_once)
    assert KCenter().select(np.ones((2, 3)), np.ones((9, 3)), budget=6).indices.tolist() == list(range(6))


def test_oracle_takes_the_wanted_classes_only():
    labels = np.random.default_rng(0).integers(0, 4, 100)
    pool = Embeddings.from_array(normal(100, 3, 0), labels=labels)
    target = Embeddings.from_array(normal(6, 3, 1), labels=[1, 1, 3, 3, -1, 1])
    assert set(Oracle().select(target, pool, budget=30).labels.tolist()) == {1, 3}
    assert set(Oracle(classes=("2",)).select(target, pool, budget=10).labels.tolist()) == {2}
    with pytest.warns(SimcoreWarning, match=r"90\b.*\b" + str((labels == 2).sum())):
        few = Oracle(classes=["2"]).select(target, pool, budget=90)
    assert (len(few), few.stop_reason) == ((labels == 2).sum(), "exhausted")
    with pytest.raises(UsageError, match="no class 'dog'"):
        Oracle(classes=("dog",)).select(target, pool, budget=3)
    with pytest.raises(UsageError, match="labels"):
        Oracle().select(target, normal(9, 3, 0), budget=3)


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        (DensityRatio, {"num_near": 0}),
        (DensityRatio, {"min_precision": 1.5}),
        (DensityRatio, {"quota": "class"}),
        (DensityRatio, {"ridge": 0.0}),
        (LinearClassifier, {"inverse_penalty": 0.0}),
        (LinearClassifier, {"quota": "y"}),
        (Top, {"num_near": 0}),
    ],
)
def test_refuses_settings_out_of_range(kind, bad):
    with pytest.raises(UsageError):
        kind(**bad)
