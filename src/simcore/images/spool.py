"""Read rows in an order that their containers do not like, yet each container only once."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from simcore.images.faults import ImageFault
from simcore.images.row_groups import ParquetReader
from simcore.images.source import ImageSource


def read_in_order(images: ImageSource, scratch: Path) -> Iterator[tuple[int, bytes | ImageFault]]:
    """Walk all rows in order, as ``images.scan()`` does.

    A row of a Parquet table costs the reading of its neighbours too. Where rows jump about in tables, they are
    therefore read in the order of the tables into a temporary file in ``scratch``, and from there in their own order.
    """
    order = _container_order(images)
    if order is None:
        yield from images.scan()
        return
    with tempfile.TemporaryFile(dir=scratch) as file:
        yield from _respooled(images, order, file)


def _container_order(images: ImageSource) -> npt.NDArray[np.int64] | None:
    """Give the rows in the order in which they lie in their tables; None where that is of no use."""
    if not any(isinstance(reader, ParquetReader) for reader in images.readers):
        return None
    keys = [(name, "ascending") for name in ("reader", "unit", "first")]
    order = pc.sort_indices(images.listing, sort_keys=keys).to_numpy().astype(np.int64)
    return None if np.array_equal(order, np.arange(len(order))) else order


def _respooled(
    images: ImageSource, order: npt.NDArray[np.int64], file: IO[bytes]
) -> Iterator[tuple[int, bytes | ImageFault]]:
    offsets, sizes = np.zeros((2, len(order)), np.int64)
    faults: dict[int, ImageFault] = {}
    for position, data in images.take(order).scan():
        row = int(order[position])
        if isinstance(data, ImageFault):
            faults[row] = data
        else:
            offsets[row], sizes[row] = file.tell(), len(data)
            file.write(data)
    for row in range(len(order)):
        if row in faults:
            yield row, faults[row]
        else:
            file.seek(int(offsets[row]))
            yield row, file.read(int(sizes[row]))
