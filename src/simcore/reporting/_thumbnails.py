"""Thumbnails: small WebP pictures inside the page, as many as its size allows."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from simcore.images.decode import decode
from simcore.images.faults import ImageFault
from simcore.images.source import ImageSource

MIME = "image/webp"
QUALITY = 72
SIDES = ((300, 160), (1000, 112), (2500, 80), (8000, 64))  # (at most so many pictures, their longer side in pixels)
READERS = 8  # threads: reading waits on disks and networks, decoding leaves the interpreter


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
        side = next((side for most, side in SIDES if number <= most), 56)
        return cls(num_bytes=num_bytes, side=side)


@dataclasses.dataclass(frozen=True)
class Thumbnail:
    """A picture ready for a ``data:`` URI, empty where it could not be had; ``digest`` tells equal files."""

    data: str = ""
    digest: str = ""


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
            thumbnail = Thumbnail(digest=thumbnail.digest)
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


def _drawn(images: ImageSource | None, rows: Sequence[int], side: int) -> Iterator[Thumbnail]:
    if images is None:
        yield from (Thumbnail() for _ in rows)
        return
    with ThreadPoolExecutor(READERS) as readers:
        yield from readers.map(lambda row: _draw(images, row, side), rows)


def _draw(images: ImageSource, row: int, side: int) -> Thumbnail:
    if row < 0:
        return Thumbnail()
    try:
        data = images.read(row)
        pixels = decode(data, short_side=side).pixels
    except ImageFault:
        return Thumbnail()
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    held = io.BytesIO()
    picture.save(held, "WEBP", quality=QUALITY, method=4)
    digest = hashlib.blake2b(data, digest_size=12).hexdigest()
    return Thumbnail(base64.b64encode(held.getvalue()).decode("ascii"), digest)
