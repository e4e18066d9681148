"""Pictures that are there twice: with equal pixels, or looking the same.

Two different pictures look the same if their thumbnails differ by little compared with what is in them: the
root mean square difference, in levels of 0 to 255, is at most ``1 + 0.06 * contrast``, and their proportions
agree. Contrast is the standard deviation over the places of a thumbnail, all channels together, of whichever of
the two has less. Rescaling, recompression and slight colour changes keep a picture within this; another picture
of the same thing is far outside.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

THUMBNAIL = 10  # side of a thumbnail in pixels
BASE_DIFFERENCE = 1.0
CONTRAST_SHARE = 0.06
MAX_PROPORTION_CHANGE = 1.05
NUM_COORDINATES = 12
QUERY_ROWS = 4096
CROWD = 256  # more candidates than this make a picture part of a crowd

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

    No pair is missed, except inside a crowd (a camera's thousands of black frames): there, pictures are compared
    with leaders only, since every pair would be too many.
    """
    if len(thumbnails) < 2:
        return []
    return _connected(np.concatenate(list(_Search(thumbnails, sizes).pairs())), len(thumbnails))


class _Search:
    """Finds pairs of thumbnails that look the same with a tree over a few of their coordinates.

    The coordinates belong to an orthonormal basis, so a distance in them can only understate the whole one.
    """

    def __init__(self, thumbnails: npt.NDArray[np.uint8], sizes: npt.NDArray[np.int32]) -> None:
        from scipy.spatial import cKDTree

        self._flat = thumbnails.reshape(len(thumbnails), -1)
        self._proportion = np.log(sizes[:, 0] / sizes[:, 1])
        self._allowed = BASE_DIFFERENCE + CONTRAST_SHARE * _contrast(self._flat)
        self._radius = self._allowed * math.sqrt(self._flat.shape[1]) + 1e-3
        self._points = np.concatenate([block @ _basis() for block in _blocks(self._flat)])
        self._tree = cKDTree(self._points)

    def pairs(self) -> Iterator[Index]:
        """Give the pairs [p, 2] in pieces; some twice."""
        counts = self._tree.query_ball_point(self._points, self._radius, return_length=True)
        quiet = np.flatnonzero((counts > 1) & (counts <= CROWD))
        for low in range(0, len(quiet), QUERY_ROWS):
            yield self._neighbours(quiet[low : low + QUERY_ROWS])
        led = np.zeros(len(counts), bool)
        for row in np.flatnonzero(counts > CROWD).tolist():
            if not led[row]:
                pairs = self._neighbours(np.array([row]))
                led[pairs[:, 1]] = True
                yield pairs
        yield np.zeros((0, 2), np.int64)

    def _neighbours(self, rows: Index) -> Index:
        """Give the pairs [p, 2] that begin with one of ``rows`` and look the same."""
        near = self._tree.query_ball_point(self._points[rows], self._radius[rows])
        second = np.concatenate([np.asarray(found, np.int64) for found in near])
        pairs = np.stack([np.repeat(rows, [len(found) for found in near]), second], axis=1)
        change = np.abs(self._proportion[pairs[:, 0]] - self._proportion[second])
        pairs = pairs[(pairs[:, 0] != second) & (change <= math.log(MAX_PROPORTION_CHANGE))]
        same: Index = pairs[_difference(self._flat, pairs) <= self._allowed[pairs].min(axis=1)]
        return same


def _blocks(flat: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.uint8]]:
    """Split rows so that floating point copies stay small."""
    return np.array_split(flat, max(1, len(flat) // 65536))


def _basis() -> npt.NDArray[np.float64]:
    """Give orthonormal directions [THUMBNAIL^2 * 3, NUM_COORDINATES]: the lowest cosine waves of each channel."""
    place = (np.arange(THUMBNAIL) + 0.5) / THUMBNAIL
    waves = np.cos(np.pi * np.outer(np.arange(2), place))
    flat = np.einsum("iy,jx->ijyx", waves, waves).reshape(4, THUMBNAIL, THUMBNAIL, 1) * np.eye(3)[:, None, None, None]
    vectors = flat.reshape(NUM_COORDINATES, -1)
    basis: npt.NDArray[np.float64] = vectors.T / np.linalg.norm(vectors, axis=1)
    return basis


def _difference(flat: npt.NDArray[np.uint8], pairs: Index) -> npt.NDArray[np.float32]:
    """Give the root mean square difference of each pair."""
    found = np.zeros(len(pairs), np.float32)
    for low in range(0, len(pairs), 65536):
        first, second = pairs[low : low + 65536].T
        difference = flat[first].astype(np.float32) - flat[second]
        found[low : low + 65536] = np.sqrt(np.mean(difference * difference, axis=1))
    return found


def _contrast(flat: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Give the standard deviation over the places of a thumbnail, all channels together; a flat colour has none."""
    places = (block.reshape(len(block), -1, 3).astype(np.float32) for block in _blocks(flat))
    variance = np.concatenate([block.var(axis=1).mean(axis=1) for block in places])
    contrast: npt.NDArray[np.float32] = np.sqrt(variance)
    return contrast


def _connected(pairs: Index, count: int) -> list[Index]:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    group = connected_components(graph, directed=False)[1]
    order = np.argsort(group, kind="stable")
    return _groups(order, group[order][1:] != group[order][:-1])
