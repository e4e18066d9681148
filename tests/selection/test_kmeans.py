from __future__ import annotations

import warnings

import numpy as np
import pytest

from simcore.errors import SimcoreError, SimcoreWarning, UsageError
from simcore.selection import kmeans


def unit(rows):
    rows = np.asarray(rows, np.float64)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


THREE = unit([[1, 0, 0], [0, 1, 0], [1, 1, 1]])
TWELVE = THREE[[0, 0, 1, 0, 2, 1, 0, 0, 1, 2, 0, 1]]


def test_fewer_distinct_rows_than_clusters_gives_the_distinct_ones_and_one_warning():
    with pytest.warns(SimcoreWarning, match=r"\b5\b.*\b3\b") as caught:
        groups = kmeans(TWELVE, 5)
    assert len(caught) == 1
    np.testing.assert_allclose(groups.centroids, THREE, atol=1e-6)
    assert groups.counts.tolist() == [6, 4, 2]
    assert groups.labels.tolist() == [0, 0, 1, 0, 2, 1, 0, 0, 1, 2, 0, 1]


def test_as_many_distinct_rows_as_clusters_needs_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kmeans(TWELVE, 3).counts.tolist() == [6, 4, 2]


@pytest.mark.parametrize("num_clusters", [5, 8])
def test_no_more_rows_than_clusters_gives_the_rows(num_clusters):
    rows = unit(np.random.default_rng(11).normal(size=(5, 3)))
    groups = kmeans(rows, num_clusters)
    np.testing.assert_allclose(groups.centroids, rows, atol=1e-6)
    assert groups.labels.tolist() == [0, 1, 2, 3, 4]
    assert groups.inertia == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("algorithm", ["lloyd", "elkan"])
def test_threads_change_nothing(monkeypatch, algorithm):
    from threadpoolctl import threadpool_limits

    rows = np.random.default_rng(2).normal(size=(900, 24))
    answers = []
    for threads in (1, 2):
        monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
        with threadpool_limits(limits=threads):
            answers.append(kmeans(rows, 20, num_restarts=2, algorithm=algorithm, seed=4).centroids)
    assert np.array_equal(*answers)


def test_finds_separate_groups_and_scikit_learns_inertia():
    from sklearn.cluster import KMeans

    rng = np.random.default_rng(0)
    centers = unit(rng.normal(size=(4, 16)))
    rows = unit(np.repeat(centers, 30, axis=0) + 0.05 * rng.normal(size=(120, 16)))
    groups = kmeans(rows, 4, seed=1)
    truth = np.repeat(np.arange(4), 30)
    assert len(set(zip(groups.labels.tolist(), truth.tolist(), strict=True))) == 4
    assert groups.inertia == pytest.approx(KMeans(4, n_init=10, random_state=1).fit(rows).inertia_, rel=1e-4)
    means = unit([rows[groups.labels == group].mean(axis=0) for group in range(4)])
    np.testing.assert_allclose(groups.centroids, means, atol=1e-6)


def test_more_restarts_never_end_worse():
    rows = np.random.default_rng(7).normal(size=(300, 8))
    few, many = (kmeans(rows, 25, num_restarts=n, seed=0).inertia for n in (1, 10))
    assert many <= few + 1e-6


def test_a_group_that_cancels_out_is_stood_for_by_a_row_of_it():
    centroids = kmeans([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.9, 0.1]], 1).centroids
    assert np.isfinite(centroids).all()
    pair = kmeans([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], 1).centroids
    np.testing.assert_allclose(np.linalg.norm(pair, axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize("bad", [{"num_clusters": 0}, {"num_clusters": 2, "num_restarts": 0}])
def test_refuses_counts_below_one(bad):
    with pytest.raises(UsageError):
        kmeans(np.ones((3, 2)), **bad)


def test_names_a_row_without_direction():
    with pytest.raises(SimcoreError, match="row 1 "):
        kmeans([[1.0, 2.0], [0.0, 0.0]], 1)
    with pytest.raises(SimcoreError, match="matrix"):
        kmeans(np.ones(4), 1)
    with pytest.raises(UsageError, match="lloyd"):
        kmeans(np.ones((3, 2)), 2, algorithm="other")
