"""Rows to batches of pixels: decoded by worker processes, or kept decoded in memory where they fit."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from simcore.images.faults import ImageFault
from simcore.images.source import ImageSource
from simcore.progress import Progress
from simcore.training._plan import Rows
from simcore.views import ImageBatch, collate

Pixels = npt.NDArray[np.uint8]
PIECE = 64  # images
SAMPLED = 32
MAX_WORKERS = 16
SECONDS_TO_SAVE = 60


@dataclasses.dataclass(frozen=True, kw_only=True)
class Piece:
    """A few images of a batch: the readable ones with their rows, and of each other the row and the reason.

    Batches travel in pieces so that no worker holds a whole batch, and one very long image widens the canvas of a
    few others alone.
    """

    images: ImageBatch | None
    rows: tuple[int, ...]
    faults: tuple[tuple[int, str], ...]

    def pin_memory(self) -> Piece:
        """Give the batch in page-locked memory (the ``DataLoader`` calls this)."""
        return self if self.images is None else dataclasses.replace(self, images=self.images.pin_memory())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decoder:
    """Decode rows of a source for views that need no more than this of an image.

    Attributes:
        source: where the rows are read.
        short_side: pixels that the shorter side must keep.
        max_aspect: of a longer image only the middle, of this aspect, can be seen in a view.
    """

    source: ImageSource
    short_side: int
    max_aspect: float

    def image(self, row: int) -> Pixels:
        """Give one image, uint8 [H, W, 3], no more than twice as large as needed; raises ``ImageFault``."""
        pixels = self.source.decode(row, short_side=self.short_side).pixels
        factor = min(pixels.shape[:2]) // self.short_side
        return _middle(pixels if factor < 2 else _reduced(pixels, factor), self.max_aspect)

    def piece(self, rows: Rows) -> Piece:
        """Decode what can be decoded."""
        return _piece_of(rows, self.images(rows))

    def images(self, rows: Rows) -> list[Pixels | str]:
        """Give for each row its image, or the reason why there is none."""
        images: list[Pixels | str] = []
        for row in rows.tolist():
            try:
                images.append(self.image(row))
            except ImageFault as fault:
                images.append(fault.reason)
        return images


def decoder_for(images: ImageSource, views: Any, image_size: int) -> Decoder:
    """Keep as much of an image as its views can show.

    The short side is that at which even the smallest square crop has as many pixels as its view. A random resized
    crop finds no box in an image of a larger aspect than 4/3 over the smallest crop's share of the area, and then
    takes the middle.
    """
    smallest = min(views.min_scale, getattr(views, "min_local_scale", 1.0))
    return Decoder(
        source=images,
        short_side=math.ceil(image_size / math.sqrt(views.min_scale)),
        max_aspect=4.0 / 3.0 / smallest,
    )


def _reduced(pixels: Pixels, factor: int) -> Pixels:
    """Average blocks of factor x factor pixels, as a JPEG decoder does that reads at a reduced scale."""
    return np.asarray(Image.fromarray(pixels).reduce(factor))


def _middle(pixels: Pixels, max_aspect: float) -> Pixels:
    """Cut the longer side, evenly at both ends, to at most ``max_aspect`` times the shorter."""
    longest = math.ceil(min(pixels.shape[:2]) * max_aspect)
    top, left = (max(0, (side - longest) // 2) for side in pixels.shape[:2])
    return pixels[top : top + longest, left : left + longest]


class Cache:
    """All images of a source, decoded once: takes the place of a :class:`Decoder`."""

    def __init__(self, images: list[Pixels | str]) -> None:
        """Take an image or the reason why there is none, for each row."""
        self._images = images

    def piece(self, rows: Rows) -> Piece:
        """Put cached images together."""
        return _piece_of(rows, [self._images[row] for row in rows.tolist()])


def _piece_of(rows: Rows, found: list[Pixels | str]) -> Piece:
    pairs = list(zip(rows.tolist(), found, strict=True))
    images = [image for image in found if not isinstance(image, str)]
    return Piece(
        images=collate(images) if images else None,
        rows=tuple(row for row, image in pairs if not isinstance(image, str)),
        faults=tuple((row, reason) for row, reason in pairs if isinstance(reason, str)),
    )


def cached(decoder: Decoder, limit_mb: int, num_workers: int, quiet: bool) -> Cache | None:
    """Decode everything into memory if a sample says that it fits ``limit_mb``; None if it does not."""
    num_images, limit = len(decoder.source), limit_mb * 2**20
    if limit == 0 or _expected_bytes(decoder) > limit:
        return None
    kept: list[Pixels | str] = []
    held = 0
    blocks = np.split(np.arange(num_images), np.arange(PIECE, num_images, PIECE))
    with Progress("decode", total=num_images, quiet=quiet) as progress:
        for images in _loader(_Singly(decoder), blocks, num_workers, pin_memory=False):
            kept += images
            held += sum(len(image) if isinstance(image, str) else image.nbytes for image in images)
            if held > limit:
                return None
            progress.advance(len(images))
    return Cache(kept)


def _expected_bytes(decoder: Decoder) -> float:
    rows = np.unique(np.linspace(0, len(decoder.source) - 1, SAMPLED).astype(np.int64))
    sizes = [image.nbytes for image in decoder.images(rows) if not isinstance(image, str)]
    return float(np.mean(sizes)) * len(decoder.source) if sizes else 0.0


class _Singly(Dataset[Any]):
    """Blocks of rows, decoded but not put on one canvas."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder

    def __getitem__(self, rows: Rows) -> list[Pixels | str]:
        return self.decoder.images(rows)


class _Pieces(Dataset[Any]):
    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder

    def __getitem__(self, rows: Rows) -> Piece:
        return self.decoder.piece(rows)


def decoded(decoder: Decoder | Cache, pieces: Iterable[Rows], num_workers: int, *, pin_memory: bool) -> Iterator[Piece]:
    """Decode pieces ahead of their use; the order and the content are the same for any ``num_workers``."""
    if isinstance(decoder, Cache):
        cached_pieces = map(decoder.piece, pieces)
        return (piece.pin_memory() for piece in cached_pieces) if pin_memory else cached_pieces
    return _loader(_Pieces(decoder), pieces, num_workers, pin_memory=pin_memory)


def _loader(dataset: Dataset[Any], pieces: Iterable[Rows], num_workers: int, *, pin_memory: bool) -> Iterator[Any]:
    loader = DataLoader(
        dataset,
        batch_size=None,  # an item is a piece already
        sampler=pieces,
        num_workers=num_workers,
        pin_memory=pin_memory,
        prefetch_factor=2 if num_workers else None,
        collate_fn=_as_it_is,
        worker_init_fn=_outlive_signals,
        generator=torch.Generator(),  # the loader draws a seed for its workers: not from the run's generator
    )
    return iter(loader)


def _as_it_is(item: Any) -> Any:
    return item


def _outlive_signals(worker: int) -> None:
    """Let the process that has to save act on SIGTERM and SIGINT, which often reach the whole process group.

    A worker that died of them would take it down in the middle of a step.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(SECONDS_TO_SAVE))


def spare_workers(num_workers: int | None, world_size: int) -> int:
    """Take ``num_workers`` as it is, or for -1 and None the cores that this process may use beside its own."""
    if num_workers is not None and num_workers >= 0:
        return num_workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, min(MAX_WORKERS, cores // world_size - 1))
