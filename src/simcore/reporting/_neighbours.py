"""Which target images a pick resembles, and how target, pool and coreset lie in the plane."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from simcore.artifacts import Embeddings, Selection

Float32 = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

MAX_TARGET_ROWS = 8_000
MAX_TARGET_POINTS = 1_200
MAX_POOL_POINTS = 1_500
BLOCK = 1024


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Unit features of the picks [n, dim] and of a part of the target [m, dim], with the target's row numbers [m]."""

    picks: Float32
    target: Float32
    target_rows: Rows


def geometry(selection: Selection, target: Embeddings | None, pool: Embeddings | None) -> Geometry | None:
    """Read what the comparison of picks and target needs; None where features are not there or do not fit."""
    if target is None or pool is None or not len(selection) or not len(target) or target.dim != pool.dim:
        return None
    if int(selection.indices.max()) >= len(pool):
        return None
    rows = sample(len(target), MAX_TARGET_ROWS)
    return Geometry(unit(pool.features.take(selection.indices)), unit(target.features.take(rows)), rows)


def sample(number: int, most: int, seed: int = 0) -> Rows:
    """Take at most ``most`` of ``number`` rows, spread at random, in order."""
    if number <= most:
        return np.arange(number, dtype=np.int64)
    return np.sort(np.random.default_rng([seed, number]).choice(number, most, replace=False)).astype(np.int64)


def unit(features: npt.NDArray[Any]) -> Float32:
    """Scale rows to length 1; a row that has no direction becomes zeros."""
    rows = np.asarray(features, np.float32)
    rows = np.where(np.isfinite(rows).all(axis=1, keepdims=True), rows, 0.0)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: Float32 = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    return scaled


def nearest_target(known: Geometry) -> tuple[Rows, Float32]:
    """Find for each pick the target row of highest cosine (the first of equals), and that cosine: [n] and [n]."""
    found = np.empty(len(known.picks), np.int64)
    value = np.empty(len(known.picks), np.float32)
    for start in range(0, len(known.picks), BLOCK):
        cosine = known.picks[start : start + BLOCK] @ known.target.T
        best = cosine.argmax(axis=1)
        found[start : start + BLOCK] = known.target_rows[best]
        value[start : start + BLOCK] = cosine[np.arange(len(best)), best]
    return found, value


def exemplars(selection: Selection, known: Geometry, most: int) -> dict[int, list[int]]:
    """Give for each cluster the ``most`` target rows nearest to the mean direction of its picks, nearest first."""
    shown: dict[int, list[int]] = {}
    for cluster in np.unique(selection.clusters).tolist():
        centre = known.picks[selection.clusters == cluster].sum(axis=0)
        order = np.argsort(-(known.target @ centre), kind="stable")[:most]
        shown[cluster] = known.target_rows[order].tolist()
    return shown


@dataclasses.dataclass(frozen=True)
class Plane:
    """Points of target, pool sample and picks in two dimensions [.., 2], and the share of variance each axis shows."""

    target_rows: Rows
    target: Float32
    pool_rows: Rows
    pool: Float32
    picks: Float32
    shares: tuple[float, float]


def project(selection: Selection, known: Geometry, pool: Embeddings) -> Plane:
    """Lay unit features out by the first two principal components of target and pool sample together."""
    from sklearn.decomposition import PCA  # slow to import

    target = sample(len(known.target), MAX_TARGET_POINTS)
    chosen = np.sort(selection.indices)
    others = sample(len(pool), MAX_POOL_POINTS)
    others = others[~np.isin(others, chosen)]
    behind = unit(pool.features.take(others))
    rows = np.concatenate([known.target[target], behind])
    count = min(2, *rows.shape)
    fitted = PCA(count, svd_solver="full" if min(rows.shape) <= 64 else "randomized", random_state=0).fit(rows)
    shares = np.zeros(2)
    shares[:count] = np.nan_to_num(fitted.explained_variance_ratio_)

    def place(features: Float32) -> Float32:
        points = np.zeros((len(features), 2), np.float32)
        if len(features):
            points[:, :count] = fitted.transform(features)
        return points

    return Plane(
        target_rows=known.target_rows[target],
        target=place(known.target[target]),
        pool_rows=others,
        pool=place(behind),
        picks=place(known.picks),
        shares=(float(shares[0]), float(shares[1])),
    )
