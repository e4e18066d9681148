"""Images to uint8 batches, in worker processes, each source row exactly once and in order."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from simcore.embedding.preprocess import Transform
from simcore.errors import SimcoreError
from simcore.images.decode import decode
from simcore.images.faults import ImageFault

if TYPE_CHECKING:
    from simcore.images.source import ImageSource

MAX_WORKERS = 8
# Below this many images the start of worker processes costs more than they save.
TINY_SOURCE = 256
# A worker that gives no batch for so long hangs (in a lock copied by fork, or on a dead network drive).
STALLED_SECONDS = 900
PARENT_CHECK_SECONDS = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Consecutive source rows of one piece.

    Attributes:
        piece: number of the piece.
        start: first source row.
        reasons: why a row has no pixels, "" where it has; n entries.
        sizes: true width and height, 0 where unknown; int32 [n, 2].
        pixels: of the rows without a reason, uint8 [num_ok, S, S, 3].
        last: whether the piece ends with this batch.
    """

    piece: int
    start: int
    reasons: list[str]
    sizes: npt.NDArray[np.int32]
    pixels: npt.NDArray[np.uint8]
    last: bool


class PieceReader(IterableDataset[Any]):
    """Reads whole pieces; several workers share them out by position, so none is read twice.

    A ``SimcoreError`` is given as an item, since the loader would wrap a raised one in a worker's traceback.
    """

    def __init__(self, source: ImageSource, pieces: Sequence[tuple[int, range]], transform: Transform, batch_size: int):
        self.source, self.pieces, self.transform, self.batch_size = source, pieces, transform, batch_size

    def __iter__(self) -> Iterator[Batch | SimcoreError]:
        worker = get_worker_info()
        mine = self.pieces if worker is None else self.pieces[worker.id :: worker.num_workers]
        try:
            for number, rows in mine:
                yield from self._batches(number, rows)
        except SimcoreError as error:
            yield error

    def _batches(self, number: int, rows: range) -> Iterator[Batch]:
        items = self.source.scan(rows.start, rows.stop)
        for start in range(rows.start, rows.stop, self.batch_size):
            stop = min(start + self.batch_size, rows.stop)
            yield self._batch(number, range(start, stop), items, stop == rows.stop)

    def _batch(self, number: int, rows: range, items: Iterator[tuple[int, bytes | ImageFault]], last: bool) -> Batch:
        side = self.transform.image_size
        pixels = np.empty((len(rows), side, side, 3), np.uint8)
        sizes = np.zeros((len(rows), 2), np.int32)
        reasons, num_ok = [], 0
        for place, expected in enumerate(rows):
            row, item = next(items, (-1, b""))
            if row != expected:
                raise RuntimeError(f"{self.source.name}: row {expected} was due, the source gave {row}")
            reason = self._fill(item, pixels[num_ok], sizes[place])
            num_ok += not reason
            reasons.append(reason)
        return Batch(piece=number, start=rows.start, reasons=reasons, sizes=sizes, pixels=pixels[:num_ok], last=last)

    def _fill(self, item: bytes | ImageFault, pixels: npt.NDArray[np.uint8], size: npt.NDArray[np.int32]) -> str:
        """Decode one image into ``pixels`` and ``size``; give the reason where it cannot be done, else ""."""
        if isinstance(item, ImageFault):
            return item.reason or type(item).__name__
        try:
            decoded = decode(item, short_side=self.transform.resize_size, limits=self.source.limits)
            pixels[:] = self.transform(decoded.pixels, decoded.width, decoded.height)
            size[:] = decoded.width, decoded.height
        except ImageFault as fault:
            return fault.reason or type(fault).__name__
        except MemoryError:
            return "too large for the memory of this machine"
        return ""


def default_workers(num_rows: int) -> int:
    """Give one decode process a core, up to 8; none for a few images, or where nothing else could run meanwhile."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 0 if num_rows <= TINY_SOURCE or cores == 1 else min(MAX_WORKERS, cores)


def read_batches(reader: PieceReader, num_workers: int) -> Iterator[Batch]:
    """Give the batches of all pieces; those of one piece come in order, pieces may alternate.

    Raises ``SimcoreError`` where a worker died or hangs.
    """
    workers = min(num_workers, len(reader.pieces))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create")  # more workers than cores are the user's wish
        loader = DataLoader(
            reader,
            batch_size=None,
            num_workers=workers,
            collate_fn=_as_it_is,  # arrays travel through pipes: containers give /dev/shm only 64 MB
            multiprocessing_context=_start_method() if workers else None,
            timeout=STALLED_SECONDS if workers else 0,
            worker_init_fn=_die_with_parent,
            generator=torch.Generator(),  # else the loader draws from torch's global one
        )
        batches = iter(loader)
    try:
        for item in batches:
            if isinstance(item, SimcoreError):
                raise item
            yield item
    except RuntimeError as error:
        if "DataLoader" not in str(error) or "Traceback" in str(error):
            raise
        raise SimcoreError(
            f"{reader.source.name}: a decode process died or hangs ({str(error).splitlines()[0]}); it may have run out "
            "of memory: run the same command again to go on, with fewer --num-workers (0 decodes in this process)"
        ) from error


def _as_it_is(batch: Any) -> Any:
    return batch


def _die_with_parent(worker: int) -> None:
    """End this worker soon after the process that it works for, even while it is stuck handing a batch over.

    (The loader's own watch looks only between batches, and a killed parent never empties the pipe.)
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _start_method() -> str:
    """Fork where it is the custom: it needs no `if __name__ == "__main__"` in the user's script, and starts at once.

    Workers touch neither the device nor torch's thread pools, so that a fork after torch started threads is safe.
    """
    safe = sys.platform.startswith("linux") and "fork" in multiprocessing.get_all_start_methods()
    return "fork" if safe else "spawn"
