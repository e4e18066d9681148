"""Pictures that are there twice: with equal pixels, or looking the same.

Two different pictures look the same if their thumbnails differ by little compared with what is in them: the
root mean square difference, in levels of 0 to 255, is at most ``1 + 0.06 * contrast``, and their proportions
agree. Contrast is the standard deviation over the places of a thumbnail, all channels together, of whichever of
the two has less. Rescaling, recompression and slight colour changes keep a picture within this; another picture
of the same thing is far outside.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

THUMBNAIL = 10  # side of a thumbnail in pixels
BASE_DIFFERENCE = 1.0
CONTRAST_SHARE = 0.06
MAX_CONTRAST = 127.5  # the largest standard deviation that levels of 0 to 255 can have
MAX_PROPORTION_CHANGE = 1.05
NUM_COORDINATES = 12

Index = npt.NDArray[np.int64]


def thumbnail(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Shrink a picture [H, W, 3] to [THUMBNAIL, THUMBNAIL, 3] by the mean of each area."""
    step = max(1, min(pixels.shape[:2]) // 128)  # every step-th pixel is plenty for such means
    image = Image.fromarray(np.ascontiguousarray(pixels[::step, ::step]))
    return np.asarray(image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX))


def equal_groups(keys: npt.NDArray[np.void]) -> list[Index]:
    """Give the groups of two and more equal keys, each in ascending order, by their first member."""
    order = np.argsort(keys, kind="stable")
    return _groups(order, keys[order][1:] != keys[order][:-1])


def _groups(order: Index, breaks: npt.NDArray[np.bool_]) -> list[Index]:
    pieces = np.split(order, np.flatnonzero(breaks) + 1)
    return sorted((np.sort(piece) for piece in pieces if len(piece) > 1), key=lambda piece: int(piece[0]))


def similar_groups(thumbnails: npt.NDArray[np.uint8], sizes: npt.NDArray[np.int32]) -> list[Index]:
    """Group pictures that look the same, directly or through others between them.

    Candidates are found exactly: a few coordinates of an orthonormal basis can only understate a distance.
    """
    if len(thumbnails) < 2:
        return []
    flat = thumbnails.reshape(len(thumbnails), -1)
    proportion = np.log(sizes[:, 0] / sizes[:, 1])
    close = _candidates(flat)
    keep = _look_same(flat, close) & (
        np.abs(proportion[close[:, 0]] - proportion[close[:, 1]]) <= math.log(MAX_PROPORTION_CHANGE)
    )
    return _connected(close[keep], len(flat))


def _candidates(flat: npt.NDArray[np.uint8]) -> Index:
    """Give the pairs [p, 2] of rows that may be near enough, from a tree over a few coordinates."""
    from scipy.spatial import cKDTree

    points = np.concatenate([block @ _basis() for block in np.array_split(flat, max(1, len(flat) // 65536))])
    farthest = (BASE_DIFFERENCE + CONTRAST_SHARE * MAX_CONTRAST) * math.sqrt(flat.shape[1])
    pairs: Index = cKDTree(points).query_pairs(farthest, output_type="ndarray").astype(np.int64)
    return pairs.reshape(-1, 2)


def _basis() -> npt.NDArray[np.float64]:
    """Give orthonormal directions [THUMBNAIL^2 * 3, NUM_COORDINATES]: the lowest cosine waves of each channel."""
    place = (np.arange(THUMBNAIL) + 0.5) / THUMBNAIL
    waves = np.cos(np.pi * np.outer(np.arange(2), place))
    flat = np.einsum("iy,jx->ijyx", waves, waves).reshape(4, THUMBNAIL, THUMBNAIL, 1) * np.eye(3)[:, None, None, None]
    vectors = flat.reshape(NUM_COORDINATES, -1)
    basis: npt.NDArray[np.float64] = vectors.T / np.linalg.norm(vectors, axis=1)
    return basis


def _look_same(flat: npt.NDArray[np.uint8], pairs: Index) -> npt.NDArray[np.bool_]:
    contrast = _contrast(flat)
    same = np.zeros(len(pairs), bool)
    for low in range(0, len(pairs), 65536):
        first, second = pairs[low : low + 65536].T
        difference = flat[first].astype(np.float32) - flat[second]
        distance = np.sqrt(np.mean(difference * difference, axis=1))
        allowed = BASE_DIFFERENCE + CONTRAST_SHARE * np.minimum(contrast[first], contrast[second])
        same[low : low + 65536] = distance <= allowed
    return same


def _contrast(flat: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Give the standard deviation over the places of a thumbnail, all channels together; a flat colour has none."""
    blocks = np.array_split(flat.reshape(len(flat), -1, 3), max(1, len(flat) // 65536))
    variance = np.concatenate([block.astype(np.float32).var(axis=1).mean(axis=1) for block in blocks])
    contrast: npt.NDArray[np.float32] = np.sqrt(variance)
    return contrast


def _connected(pairs: Index, count: int) -> list[Index]:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    group = connected_components(graph, directed=False)[1]
    order = np.argsort(group, kind="stable")
    return _groups(order, group[order][1:] != group[order][:-1])
