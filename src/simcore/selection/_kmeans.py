"""k-means on the sphere of unit features: the centroids that stand for the target.

The source says: k-means (k = 100) on L2-normalised features, centroids normalised again, all rows themselves
where k is at least their number (arXiv 2303.11101, section 3, and its released code).
"""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import numpy.typing as npt

from simcore.errors import SimcoreError, SimcoreWarning, UsageError
from simcore.selection._features import Float32, Float64, Rows

ALGORITHMS = ("lloyd", "elkan")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Centroids:
    """Unit vectors that stand for groups of rows.

    Attributes:
        centroids: distinct unless they are the rows themselves, fp32 [k, dim], each of norm 1.
        counts: rows of each group, all at least 1, int64 [k].
        labels: group of each row, int64 [num_rows].
        inertia: sum of squared distances of the unit rows to their group's mean.
    """

    centroids: Float32
    counts: Rows
    labels: Rows
    inertia: float

    def __len__(self) -> int:
        return len(self.centroids)


def kmeans(
    features: npt.ArrayLike, num_clusters: int, *, num_restarts: int = 10, algorithm: str = "lloyd", seed: int = 0
) -> Centroids:
    """Group rows [num_rows, dim] by direction into at most ``num_clusters`` groups.

    With ``num_clusters`` of num_rows or more each row is its own centroid. With fewer distinct rows than clusters
    each distinct row is one, in order of first appearance, and a warning names both numbers. Otherwise it is
    scikit-learn's k-means++ with ``num_restarts`` starts (10: its default when the paper was written; 1: since
    1.4), kept to one thread so that centroids and their order are the same on any number of cores. A group left
    empty is dropped with a warning.

    Raises:
        UsageError: a count below 1 or an unknown algorithm.
        SimcoreError: no rows, or a row without a direction.
    """
    if num_clusters < 1 or num_restarts < 1:
        raise UsageError(f"k-means needs 1 cluster and 1 restart at least, not {num_clusters} and {num_restarts}")
    if algorithm not in ALGORITHMS:
        raise UsageError(f"no k-means algorithm is called '{algorithm}'; known: {', '.join(ALGORITHMS)}")
    rows = _unit_rows(features)
    if num_clusters >= len(rows):
        return _grouped(rows, np.arange(len(rows)))
    _, first, labels = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    if len(first) <= num_clusters:
        return _distinct(rows, first, labels.reshape(-1), num_clusters)
    return _grouped(rows, _fit(rows, num_clusters, num_restarts, algorithm, seed))


def _unit_rows(features: npt.ArrayLike) -> Float32:
    rows = np.asarray(features)
    if rows.ndim != 2 or rows.dtype.kind not in "fiu" or 0 in rows.shape:
        raise SimcoreError(f"k-means needs a matrix [rows, dim] of numbers, not {rows.dtype} {rows.shape}")
    rows = rows.astype(np.float64)
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
    if len(bad):
        raise SimcoreError(f"k-means: row {bad[0]} holds NaN, infinity or only zeros ({len(bad)} such rows)")
    units: Float32 = (rows / norms[:, None]).astype(np.float32)
    return units


def _distinct(rows: Float32, first: Rows, labels: Rows, num_clusters: int) -> Centroids:
    """Take each distinct row as a centroid, in order of first appearance."""
    if len(first) < num_clusters:
        warnings.warn(
            f"{num_clusters} clusters are wanted but only {len(first)} of the {len(rows)} rows are distinct; "
            f"{len(first)} clusters are made",
            SimcoreWarning,
            stacklevel=3,
        )
    place = np.empty(len(first), np.int64)
    place[np.argsort(first)] = np.arange(len(first))
    return _grouped(rows, place[labels])


def _fit(rows: Float32, num_clusters: int, num_restarts: int, algorithm: str, seed: int) -> Rows:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    model = KMeans(
        num_clusters, init="k-means++", n_init=num_restarts, algorithm=algorithm, random_state=seed, copy_x=True
    )
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = model.fit(rows).labels_.astype(np.int64)
    present, dense = np.unique(labels, return_inverse=True)
    if len(present) < num_clusters:
        warnings.warn(
            f"k-means left {num_clusters - len(present)} of {num_clusters} clusters empty; {len(present)} are kept",
            SimcoreWarning,
            stacklevel=4,
        )
    return dense.astype(np.int64)


def _grouped(rows: Float32, labels: Rows) -> Centroids:
    """Average each group's rows in fp64, in row order, and normalise."""
    counts = np.bincount(labels)
    order = np.argsort(labels, kind="stable")
    starts = np.cumsum(counts) - counts
    means = np.add.reduceat(rows[order].astype(np.float64), starts, axis=0) / counts[:, None]
    inertia = len(rows) - float((counts * np.einsum("ij,ij->i", means, means)).sum())
    return Centroids(
        centroids=_directions(means, rows, labels), counts=counts, labels=labels, inertia=max(0.0, inertia)
    )


def _directions(means: Float64, rows: Float32, labels: Rows) -> Float32:
    """Normalise means; a group whose rows cancel out is stood for by its first row."""
    norms = np.sqrt(np.einsum("ij,ij->i", means, means))
    directions = means / np.where(norms > 1e-6, norms, 1.0)[:, None]
    for group in np.flatnonzero(norms <= 1e-6):
        directions[group] = rows[np.flatnonzero(labels == group)[0]]
    return directions.astype(np.float32)
