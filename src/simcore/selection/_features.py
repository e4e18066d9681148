"""Features: the rows of an embedding read as unit vectors, tile by tile, with bad rows known and left out."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from simcore.artifacts import Embeddings
from simcore.artifacts.parts import let_go
from simcore.selection._threads import threaded

if TYPE_CHECKING:
    from simcore.selection._queues import PoolScores
    from simcore.selection._space import Space

Answer = TypeVar("Answer")
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

TILE_NUMBERS = 1 << 21  # feature numbers in a tile: 8 MB in fp32, near the size of a core's cache
_TORCH_PAYS_FROM = 1 << 24  # numbers; below, importing torch takes longer than it saves
_ROWS_AT_ONCE = 256  # in fp64 work
_NUMBERS_AT_ONCE = 1 << 19
_NOT_IN_FP32 = np.float32(1e-20)  # noted for the norm of a valid row whose squares leave fp32's range
_RESIDENT_BYTES = 6 << 30  # of a memory map; the pages of a larger one are let go once they have been read
_SCATTERED_BYTES = 1 << 31  # of such a one, mapped by reads of single rows before they are let go
_MAPPED_AROUND = 1 << 19  # bytes that the system may map along with a row read from anywhere (0.2 MB were seen)
_SAFE_SQUARES = (1e-30, 1e30)  # squared norms between which fp32 arithmetic neither overflows nor underflows


class Tile(NamedTuple):
    """Some neighbouring rows: ``rows`` [n, dim] fp32, their ``norms`` [n], and which are ``valid`` [n].

    A row divided by its norm is a unit vector, or one no longer than ``longest``; invalid rows are zeros with norm 1.
    """

    start: int
    rows: Float32
    norms: Float32
    valid: Mask
    longest: float = 1.0


class Features:
    """Cosine geometry over :class:`Embeddings`, without a copy of them in memory.

    A row with NaN, infinity or only zeros has no direction; it is invalid. Rows that the embeddings bar are read as
    zeros, and so are never chosen. Norms are found in the first whole walk over the tiles and kept (4 bytes a row).
    """

    def __init__(self, embeddings: Embeddings) -> None:
        self._embeddings, self._stored = embeddings, embeddings.features
        self.num_rows, self.dim = self._stored.shape
        self._barred = _mask(embeddings.barred, self.num_rows)
        self._fast_half = self._stored.dtype == np.float16 and self.num_rows * self.dim >= _TORCH_PAYS_FROM
        self._lets_go = self.num_rows * self.dim * self._stored.dtype.itemsize > _RESIDENT_BYTES
        if self._fast_half:
            _let_torch_read_maps()
        self._scattered = 0  # rows read from anywhere since pages were let go
        self._norms: Float32 = np.full(self.num_rows, -1.0, np.float32)  # -1: not looked at; 0: invalid

    def over_shards(self, work: Callable[..., Answer], *args: Any) -> list[Answer]:
        """Do ``work(features, first row, *args)`` on each shard of the rows, in order; here one shard holds them all.

        Whatever looks at all rows goes this way, for a pool may lie on many machines. ``work`` is a function of a
        module, and its answer depends on rows, not on how they are cut.
        """
        return [work(self, 0, *args)]

    def scores(self, centroids: Float32, budget: int) -> PoolScores:
        """Rank all rows for unit centroids [num_clusters, dim], planning for a ``budget`` of rows in all."""
        from simcore.selection._similarity import FeatureScores  # which imports this module

        return FeatureScores(centroids, self, budget)

    def placed(self, space: Space) -> Features:
        """See the rows in a space."""
        from simcore.selection._placed import PlacedFeatures  # which imports this module

        return PlacedFeatures(self._embeddings, space)

    def tiles(self, max_rows: int | None = None) -> Iterator[Tile]:
        """Walk all rows in order; tiles are made in this thread, so hand :meth:`spans` to threads instead."""
        for span in self.spans(max_rows):
            yield self.tile(*span)

    def spans(self, max_rows: int | None = None) -> list[tuple[int, int]]:
        """Cut the rows into [start, stop) pieces of a tile each."""
        size = max_rows or self.tile_rows
        return [(start, min(start + size, self.num_rows)) for start in range(0, self.num_rows, size)]

    @property
    def tile_rows(self) -> int:
        """Rows of a tile that suits the cache."""
        return max(1, TILE_NUMBERS // self.dim)

    def tile(self, start: int, stop: int) -> Tile:
        """Read rows [start, stop)."""
        rows = np.empty((stop - start, self.dim), np.float32)
        for first, block in self._stored.blocks(stop - start, start, stop):
            self._to_float32(block, rows[first - start : first - start + len(block)])
            if self._lets_go:
                let_go(block)
        if self._barred is not None:
            rows[self._barred[start:stop]] = 0.0
        tile = self._directed(start, rows, np.arange(start, stop), self._norms[start:stop])
        return tile

    def some(self, indices: Rows) -> Tile:
        """Read rows from anywhere, in the order of ``indices``."""
        rows = np.empty((len(indices), self.dim), np.float32)
        self._to_float32(self._take(indices), rows)
        return self._directed(int(indices[0]), rows, indices, np.empty(len(indices), np.float32))

    def _directed(self, start: int, rows: Float32, indices: Rows, note: Float32) -> Tile:
        """Find norms; rows whose squares leave fp32's range are looked at in fp64.

        What is to be kept of the norms goes to ``note``: 0 for invalid rows, and for rows looked at in fp64 a mark.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.einsum("ij,ij->i", rows, rows)
        norms = np.sqrt(squares)
        doubtful = np.flatnonzero(~((squares > _SAFE_SQUARES[0]) & (squares < _SAFE_SQUARES[1])))
        note[:] = norms
        if len(doubtful):
            rows[doubtful], norms[doubtful] = self._settle(indices[doubtful])
            note[doubtful] = np.where(norms[doubtful] > 0, _NOT_IN_FP32, 0.0)
        valid = norms > 0
        norms[~valid] = 1.0
        return Tile(start, rows, norms, valid)

    def _take(self, indices: Rows) -> npt.NDArray[Any]:
        stored = self._stored.take(indices)
        if self._lets_go:
            self._let_scattered_go(len(indices))
        if self._barred is not None:
            stored[self._barred[indices]] = 0.0
        return stored

    def _let_scattered_go(self, num_rows: int) -> None:
        """Let all pages go before those mapped by reads of single rows add up."""
        self._scattered += num_rows
        if self._scattered * _MAPPED_AROUND > _SCATTERED_BYTES:
            self._scattered = 0
            for _, part in self._stored.blocks(self.num_rows):
                let_go(part)

    def _to_float32(self, block: npt.NDArray[Any], out: Float32) -> None:
        """Convert exactly; torch does fp16 ten times faster than numpy."""
        if not self._fast_half:
            with np.errstate(over="ignore"):
                np.copyto(out, block, casting="unsafe")
            return
        import torch

        torch.from_numpy(out).copy_(torch.from_numpy(block))

    def _settle(self, indices: Rows) -> tuple[Float32, Float32]:
        """Look in fp64 at rows whose squares leave fp32's range: unit rows with norm 1, or zeros with norm 0."""
        units, norms = _unit64(self._take(indices).astype(np.float64))
        return units.astype(np.float32), (norms > 0).astype(np.float32)

    @functools.cached_property
    def valid(self) -> Mask:
        """Which rows have a direction [num_rows]; costs a pass unless all tiles have been read before."""
        for _ in threaded(lambda span: self.tile(*span), self._unseen()):
            pass
        return self._norms > 0

    def _unseen(self) -> list[tuple[int, int]]:
        return [(start, stop) for start, stop in self.spans() if self._norms[start:stop].min() < 0]

    @property
    def num_barred(self) -> int:
        """How many rows must not be chosen, whatever they hold."""
        return 0 if self._barred is None else int(np.count_nonzero(self._barred))

    @property
    def num_valid(self) -> int:
        """How many rows have a direction."""
        return int(np.count_nonzero(self.valid))

    def cosines(self, indices: Rows, units: Float32, owners: Rows | None = None) -> Float32:
        """Give the cosine of valid rows to unit vectors, each summed in fp32 in one fixed order.

        A cosine's bits depend on its row and vector alone, not on what else is asked for with it.

        Shape:
            indices: [n]; units: one vector [dim], or with ``owners`` [n] a matrix whose row ``owners[i]`` belongs to
            ``indices[i]``.
        """
        cosines = np.empty(len(indices), np.float32)
        order = np.argsort(indices)  # neighbours lie on one page
        step = max(64, _NUMBERS_AT_ONCE // self.dim)

        def some(first: int) -> None:
            places = order[first : first + step]
            rows, norms = self._rows_and_norms(indices[places])
            vectors = np.broadcast_to(units, rows.shape) if owners is None else units[owners[places]]
            cosines[places] = np.clip(np.einsum("ij,ij->i", rows, vectors) / norms, -1.0, 1.0)

        for _ in threaded(some, range(0, len(indices), step)):
            pass
        return cosines

    def _rows_and_norms(self, indices: Rows) -> tuple[Float32, Float32]:
        """Read rows as :meth:`some` does, with the norms that a walk over the tiles has left where there was one."""
        norms = self._norms[indices]
        if not norms.min() > _NOT_IN_FP32:
            tile = self.some(indices)
            return tile.rows, tile.norms
        rows = np.empty((len(indices), self.dim), np.float32)
        self._to_float32(self._take(indices), rows)
        return rows, norms

    def _take64(self, indices: Rows) -> Float64:
        return self._as_float64(self._take(indices))

    def _as_float64(self, stored: npt.NDArray[Any]) -> Float64:
        if not self._fast_half:
            return stored.astype(np.float64)
        rows = np.empty(stored.shape, np.float32)
        self._to_float32(stored, rows)
        return rows.astype(np.float64)

    def unit64(self, indices: Rows) -> Float64:
        """Copy rows as unit vectors in fp64 [len(indices), dim]; zeros for invalid ones."""
        return _unit64(self._take64(indices))[0]

    def units_between(self, start: int, stop: int) -> tuple[Float64, Mask]:
        """Read rows [start, stop) as unit vectors in fp64, the same bits as :meth:`unit64`; tells which are valid."""
        rows = np.empty((stop - start, self.dim))
        for first, block in self._stored.blocks(stop - start, start, stop):
            rows[first - start : first - start + len(block)] = self._as_float64(block)
            if self._lets_go:
                let_go(block)
        if self._barred is not None:
            rows[self._barred[start:stop]] = 0.0
        units, norms = _unit64(rows)
        noted = self._norms[start:stop]
        noted[noted < 0] = np.where(norms[noted < 0] > 0, _NOT_IN_FP32, 0.0)
        return units, norms > 0

    def unit(self, indices: Rows | None = None) -> Float32:
        """Copy rows (all where None) as unit vectors in fp32; each row's bits depend on that row alone."""
        chosen = np.arange(self.num_rows) if indices is None else indices
        units = np.empty((len(chosen), self.dim), np.float32)
        for start in range(0, len(chosen), _ROWS_AT_ONCE):
            units[start : start + _ROWS_AT_ONCE] = self.unit64(chosen[start : start + _ROWS_AT_ONCE])
        return units


def _mask(rows: Rows | None, num_rows: int) -> Mask | None:
    if rows is None or not len(rows):
        return None
    mask = np.zeros(num_rows, bool)
    mask[rows] = True
    return mask


def _unit64(rows: Float64) -> tuple[Float64, Float64]:
    """Divide rows by their norms; a row without a direction becomes zeros with norm 0."""
    with np.errstate(all="ignore"):
        norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    without = ~(np.isfinite(norms) & (norms > 0))
    rows, norms = np.where(without[:, None], 0.0, rows), np.where(without, 0.0, norms)
    return rows / np.where(without, 1.0, norms)[:, None], norms


def _let_torch_read_maps() -> None:
    """Use up torch's one warning about viewing a read-only array: the views made here are only read."""
    import torch

    frozen = np.zeros(1, np.float16)
    frozen.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.from_numpy(frozen)
