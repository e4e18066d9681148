"""One long matrix in several memory-mapped files."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


class PartedArray:
    """Rows of several arrays, read as one [num_rows, dim] matrix without joining them in memory."""

    def __init__(self, parts: Sequence[npt.NDArray[Any]]) -> None:
        """Take parts of shape [n_i, dim], all of one dim and one dtype; at least one part."""
        dims = {part.shape[1:] for part in parts}
        if len(dims) != 1 or any(part.ndim != 2 for part in parts):
            raise ValueError(f"parts must be matrices of one width, not {sorted(dims)}")
        self.parts = tuple(parts)
        self._starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)

    @property
    def shape(self) -> tuple[int, int]:
        """(num_rows, dim)."""
        return int(self._starts[-1]), int(self.parts[0].shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored numbers."""
        return self.parts[0].dtype

    def __len__(self) -> int:
        return self.shape[0]

    def blocks(self, max_rows: int, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """Walk rows [start, stop) in order as (first row, view of at most ``max_rows`` rows); views copy nothing."""
        stop = len(self) if stop is None else min(stop, len(self))
        for base, part in zip(self._starts[:-1].tolist(), self.parts, strict=True):
            low, high = max(start, base), min(stop, base + len(part))
            for first in range(low, high, max_rows):
                yield first, part[first - base : min(first + max_rows, high) - base]

    def take(self, indices: npt.NDArray[np.integer[Any]]) -> npt.NDArray[Any]:
        """Copy the rows ``indices`` (any order, repeats allowed) into one array [len(indices), dim]."""
        wanted = np.asarray(indices, np.int64)
        if wanted.size and not (wanted.min() >= 0 and wanted.max() < len(self)):
            raise IndexError(f"rows run from 0 to {len(self) - 1}")
        if len(self.parts) == 1:
            return self.parts[0].take(wanted, axis=0)
        taken = np.empty((len(wanted), self.shape[1]), self.dtype)
        owner = np.searchsorted(self._starts, wanted, side="right") - 1
        if (owner[1:] < owner[:-1]).any():
            order = np.argsort(owner, kind="stable")
            taken[order] = self.take(wanted[order])
            return taken
        bounds = np.searchsorted(owner, np.arange(len(self.parts) + 1))
        for number in np.flatnonzero(np.diff(bounds)):
            mine = slice(*bounds[number : number + 2])
            self.parts[number].take(wanted[mine] - self._starts[number], axis=0, out=taken[mine], mode="clip")
        return taken

    def __getitem__(self, key: slice) -> npt.NDArray[Any]:
        start, stop, step = key.indices(len(self))
        return self.take(np.arange(start, stop, step))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        joined = self.parts[0] if len(self.parts) == 1 else np.concatenate(self.parts)
        return np.array(joined, dtype=dtype, copy=copy)


def let_go(block: npt.NDArray[Any]) -> None:
    """Unmap the pages of a memory map that ``block`` is a contiguous view of, so that they stop being resident memory.

    The file stays in the system's cache, and reading the block again maps it again. Arrays that are no read-only map
    are left alone.
    """
    owner: Any = block
    while isinstance(owner, np.ndarray):
        owner = owner.base
    # A map that may be written could lose what was written to it.
    if not isinstance(owner, mmap.mmap) or block.flags.writeable or not hasattr(mmap, "MADV_DONTNEED"):
        return
    first = block.ctypes.data - np.frombuffer(owner, np.uint8).ctypes.data
    start = -(-first // mmap.PAGESIZE) * mmap.PAGESIZE
    length = (first + block.nbytes - start) // mmap.PAGESIZE * mmap.PAGESIZE
    if length > 0:
        owner.madvise(mmap.MADV_DONTNEED, start, length)
