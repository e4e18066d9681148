"""Thumbnails: small WebP pictures inside the page, as many as its size allows."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import itertools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from simcore.images.decode import decode
from simcore.images.duplicates import thumbnail as sketch
from simcore.images.faults import ImageFault
from simcore.images.source import ImageSource

MIME = "image/webp"
QUALITY = 72
SIDES = (
    (300, 160),
    (1000, 112),
    (2500, 80),
    (4000, 64),
    (7000, 56),
)  # (at most so many pictures, longer side in pixels)
READ_AHEAD = 256  # files held at once


@dataclasses.dataclass
class Room:
    """Bytes left for thumbnails in one page; what does not fit stays a placeholder and is counted."""

    num_bytes: int
    side: int
    num_shown: int = 0
    num_unreadable: int = 0
    num_without_room: int = 0

    @classmethod
    def for_pictures(cls, number: int, num_bytes: int) -> Room:
        """Choose the side by how many pictures there are to show: few may be larger."""
        side = next((side for most, side in SIDES if number <= most), 48)
        return cls(num_bytes=num_bytes, side=side)


@dataclasses.dataclass(frozen=True, eq=False)
class Thumbnail:
    """A picture ready for a ``data:`` URI, empty where it could not be had.

    ``digest`` tells equal files, ``sketch`` and ``size`` (width, height) pictures that look the same.
    """

    data: str = ""
    digest: str = ""
    sketch: npt.NDArray[np.uint8] | None = None
    size: tuple[int, int] = (0, 0)


def thumbnails(images: ImageSource | None, ids: Sequence[str], room: Room) -> list[Thumbnail]:
    """Make one thumbnail for each id, in order, until ``room`` is used up.

    An id that ``images`` does not hold, or holds and cannot read, gives an empty one.
    """
    rows = rows_of(images, ids)
    made: list[Thumbnail] = []
    for thumbnail in _drawn(images, rows, room.side):
        size = len(thumbnail.data)
        if not size:
            room.num_unreadable += 1
        elif size > room.num_bytes:
            room.num_without_room += 1
            thumbnail = dataclasses.replace(thumbnail, data="")
        else:
            room.num_bytes -= size
            room.num_shown += 1
        made.append(thumbnail)
    return made


def rows_of(images: ImageSource | None, ids: Sequence[str]) -> list[int]:
    """Find the source's row of each id, -1 where there is none; memory grows with ``ids``, not with the source."""
    if images is None or not len(ids):
        return [-1] * len(ids)
    column = images.table["id"]
    found = pc.indices_nonzero(pc.is_in(column, value_set=pa.array(ids, pa.string()))).to_numpy()
    names = column.take(pa.array(found)).to_pylist()
    places = dict(zip(reversed(names), reversed(found.tolist()), strict=True))  # of equal ids the first row counts
    return [places.get(name, -1) for name in ids]


def _drawn(images: ImageSource | None, rows: Sequence[int], side: int) -> list[Thumbnail]:
    """Draw the pictures of ``rows``; each file is read once, in source order, as shards and tables like it."""
    wanted = sorted({row for row in rows if row >= 0})
    if images is None or not wanted:
        return [Thumbnail()] * len(rows)
    scan = images.take(np.asarray(wanted)).scan(0, len(wanted))
    made: list[Thumbnail] = []
    with ThreadPoolExecutor(os.cpu_count()) as painters:
        while some := list(itertools.islice(scan, READ_AHEAD)):
            made += painters.map(lambda item: _draw(item[1], side), some)
    drawn = dict(zip(wanted, made, strict=True))
    return [drawn.get(row, Thumbnail()) for row in rows]


def _draw(data: bytes | ImageFault, side: int) -> Thumbnail:
    if isinstance(data, ImageFault):
        return Thumbnail()
    try:
        decoded = decode(data, short_side=side)
    except ImageFault:
        return Thumbnail()
    picture = Image.fromarray(decoded.pixels)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    held = io.BytesIO()
    picture.save(held, "WEBP", quality=QUALITY, method=4)
    digest = hashlib.blake2b(data, digest_size=12).hexdigest()
    text = base64.b64encode(held.getvalue()).decode("ascii")
    return Thumbnail(text, digest, sketch(decoded.pixels), (decoded.width, decoded.height))
