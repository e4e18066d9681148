"""The pictures and points of a page: picks, the target images beside them, the map."""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from simcore.artifacts import Embeddings, Selection
from simcore.images.duplicates import similar_groups
from simcore.images.source import ImageSource
from simcore.reporting._neighbours import Geometry, Plane, exemplars, nearest_target, project
from simcore.reporting._thumbnails import MIME, Room, Thumbnail, thumbnails

PAGE_BYTES = 8_400_000
EXEMPLARS = 6
MAX_PICK_PICTURES = 7_000
MAX_POOL_PICTURES = 400
MAX_TARGET_PICTURES = 700
MAP_STEPS = 2000  # coordinates are whole numbers from 0 to this


@dataclasses.dataclass
class Album:
    """What a page shows of the images; target images are referred to by their place in ``target_rows``."""

    room: Room
    pick_pictures: list[Thumbnail]
    target_pictures: list[Thumbnail]
    pool_pictures: list[Thumbnail]
    target_rows: list[int]
    target_ids: list[str]
    target_classes: list[str]
    exemplars: dict[int, list[int]] = dataclasses.field(default_factory=dict)
    nearest: list[int] | None = None
    nearest_similarity: list[float] | None = None
    plane: Plane | None = None

    @property
    def num_placeholders(self) -> int:
        """Picks that are shown by name only."""
        return sum(not picture.data for picture in self.pick_pictures)

    @property
    def has_pictures(self) -> bool:
        """Whether any pick can be seen."""
        return self.num_placeholders < len(self.pick_pictures)

    def picks(self) -> dict[str, Any]:
        """Columns of the picks: thumbnail, nearest target image and the cosine to it."""
        return {
            "thumb": [picture.data for picture in self.pick_pictures],
            "nearest": self.nearest,
            "nearestSimilarity": self.nearest_similarity,
        }

    @functools.cached_property
    def duplicates(self) -> list[dict[str, Any]]:
        """Groups of picks, or of picks and target images, that look the same; ``same``: equal byte for byte."""
        pictures = [*self.pick_pictures, *self.target_pictures]
        seen = [place for place, picture in enumerate(pictures) if picture.sketch is not None]
        sketches = np.asarray([pictures[place].sketch for place in seen], np.uint8)
        sizes = np.asarray([pictures[place].size for place in seen], np.int32)
        groups = [[seen[i] for i in group] for group in similar_groups(sketches, sizes)]
        count = len(self.pick_pictures)
        return [
            {
                "picks": [place for place in group if place < count],
                "targets": [place - count for place in group if place >= count],
                "same": len({pictures[place].digest for place in group}) == 1,
            }
            for group in groups
            if group[0] < count
        ]

    def targets(self) -> dict[str, Any]:
        """Columns of the target images that the page refers to."""
        return {
            "id": self.target_ids,
            "class": self.target_classes,
            "thumb": [picture.data for picture in self.target_pictures],
            "mime": MIME,
        }

    def map(self) -> dict[str, Any] | None:
        """Points in whole numbers from 0 to ``MAP_STEPS``, target points with their place among the targets."""
        if self.plane is None:
            return None
        groups = (self.plane.target, self.plane.pool, self.plane.picks)
        every = np.concatenate(groups)
        low, high = every.min(axis=0), every.max(axis=0)
        scale = MAP_STEPS / max(float((high - low).max()), 1e-9)
        target, pool, picks = (np.rint((points - low) * scale).astype(int).tolist() for points in groups)
        places = {row: place for place, row in enumerate(self.target_rows)}
        return {
            "target": target,
            "targetPlace": [places.get(row, -1) for row in self.plane.target_rows.tolist()],
            "pool": pool,
            "poolThumb": [picture.data for picture in self.pool_pictures],
            "picks": picks,
            "shares": [round(100 * share, 1) for share in self.plane.shares],
            "size": np.rint((high - low) * scale).astype(int).tolist(),
        }


def fill_album(
    selection: Selection,
    known: Geometry | None,
    target: Embeddings | None,
    pool: Embeddings | None,
    target_images: ImageSource | None,
    pool_images: ImageSource | None,
) -> Album:
    """Choose what to show and make its thumbnails: picks first, then target images, then some of the pool."""
    plane = project(selection, known, pool) if known is not None and pool is not None else None
    nearest, similarity = nearest_target(known) if known is not None else (None, None)
    beside = exemplars(selection, known, EXEMPLARS) if known is not None else {}
    target_rows = _target_rows(target, beside, nearest, plane)
    pool_rows = _thinned(plane.pool_rows.tolist(), MAX_POOL_PICTURES) if plane is not None else []
    room = Room.for_pictures(
        min(len(selection), MAX_PICK_PICTURES) + min(len(target_rows), MAX_TARGET_PICTURES) + len(pool_rows), PAGE_BYTES
    )
    ids = list(selection.ids) or [str(row) for row in selection.indices.tolist()]
    target_ids = _ids(target, target_rows)
    reserve = Room(room.num_bytes // 8, room.side)
    target_pictures = thumbnails(target_images, target_ids[:MAX_TARGET_PICTURES], reserve)
    target_pictures += [Thumbnail()] * (len(target_ids) - len(target_pictures))
    room.num_bytes -= room.num_bytes // 8
    pick_pictures = thumbnails(pool_images, ids[:MAX_PICK_PICTURES], room)
    room.num_without_room += len(ids) - len(pick_pictures)
    pick_pictures += [Thumbnail()] * (len(ids) - len(pick_pictures))
    small = Room(room.num_bytes, min(room.side, 64))
    places = {row: i for i, row in enumerate(target_rows)}
    return Album(
        room=room,
        pick_pictures=pick_pictures,
        target_pictures=target_pictures,
        pool_pictures=_spread(plane, thumbnails(pool_images, _ids(pool, pool_rows), small), pool_rows),
        target_rows=target_rows,
        target_ids=target_ids,
        target_classes=_classes(target, target_rows),
        exemplars={cluster: [places[row] for row in rows] for cluster, rows in beside.items()},
        nearest=None if nearest is None else [places[row] for row in nearest.tolist()],
        nearest_similarity=None if similarity is None else [round(float(v), 4) for v in similarity],
        plane=plane,
    )


def _target_rows(
    target: Embeddings | None, beside: dict[int, list[int]], nearest: Any, plane: Plane | None
) -> list[int]:
    """List the target rows that the page refers to, those that show most often first."""
    if target is None:
        return []
    counts = collections.Counter(row for rows in beside.values() for row in rows[:2])
    counts.update(nearest.tolist() if nearest is not None else [])
    rows = [row for row, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    rows += [row for rows in beside.values() for row in rows]
    rows += plane.target_rows.tolist() if plane is not None else list(range(min(len(target), EXEMPLARS)))
    return list(dict.fromkeys(rows))


def _thinned(rows: list[int], most: int) -> list[int]:
    return rows[:: -(-len(rows) // most)] if rows else []


def _ids(store: Embeddings | None, rows: Sequence[int]) -> list[str]:
    return [] if store is None or not len(rows) else store.table["id"].take(rows).to_pylist()


def _classes(store: Embeddings | None, rows: Sequence[int]) -> list[str]:
    if store is None or not len(rows):
        return []
    labels = store.labels[np.asarray(rows, np.int64)]
    return [store.classes[label] if 0 <= label < len(store.classes) else "" for label in labels.tolist()]


def _spread(plane: Plane | None, pictures: list[Thumbnail], rows: Sequence[int]) -> list[Thumbnail]:
    """Give every pool point its picture, or none."""
    if plane is None:
        return []
    known = dict(zip(map(int, rows), pictures, strict=True))
    return [known.get(row, Thumbnail()) for row in plane.pool_rows.tolist()]
