"""Images, alone or with boxes or masks: prepared by the decoding processes, in batches for the loop or in order."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torchvision.transforms import v2

from simcore.artifacts.files import fingerprint
from simcore.errors import SimcoreWarning
from simcore.images import ImageFault, ImageSource
from simcore.training._data import ViewBatches
from simcore.training._decoding import PIECE, decoded, spare_workers
from simcore.training._faults import name_of_row
from simcore.training._plan import BatchPlan

Job = list[tuple[int, int | None]]
AT_ONCE = 8  # images of a forward pass where nothing is learnt


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Scenes(ABC):
    """What becomes of a row of ``source``: a scene, that is pixels with the targets that belong to them."""

    source: ImageSource

    @abstractmethod
    def scene(self, row: int, *, augmented: bool) -> Any:
        """Prepare one row; draws come from torch's default generator. Raises ``ImageFault``."""

    def piece(self, job: Job) -> ScenePiece:
        """Prepare rows, each with a seed for its draws, or with None in the way of a test."""
        scenes, rows, faults = [], [], []
        for row, seed in job:
            try:
                with seeded(seed):
                    scenes.append(self.scene(row, augmented=seed is not None))
                rows.append(row)
            except ImageFault as fault:
                faults.append((row, fault.reason))
        return ScenePiece(scenes=scenes, rows=tuple(rows), faults=tuple(faults))


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ScenePiece:
    """Some scenes with their rows, and of each other the row and the reason."""

    scenes: Sequence[Any]
    rows: tuple[int, ...]
    faults: tuple[tuple[int, str], ...]


class HasPixels(Protocol):
    """Whatever holds an image [3, H, W]."""

    @property
    def pixels(self) -> Tensor:
        """The image."""


Scene = TypeVar("Scene", bound=HasPixels)


class PlainScene(NamedTuple):
    """An image by itself: ``pixels`` uint8 [3, h, w] resized, ``size`` (width, height) of the whole image."""

    row: int
    pixels: Tensor
    size: tuple[int, int]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PlainScenes(Scenes):
    """Rows of a source as a trained model looks at them, whatever is known of them.

    Attributes:
        short_side: of the resized image in pixels.
        long_side: what the other side may be at most; None for no limit.
    """

    short_side: int
    long_side: int | None = None

    def scene(self, row: int, *, augmented: bool) -> Any:
        """Give the whole image, resized; a subclass adds what it knows of it."""
        return self.plain(row)

    def plain(self, row: int) -> PlainScene:
        """Give the whole image, resized; raises ``ImageFault``."""
        decoded = self.source.decode(row, short_side=self.short_side)
        pixels = torch.from_numpy(decoded.pixels).permute(2, 0, 1)
        return PlainScene(row, resized(pixels, self.short_side, self.long_side), (decoded.width, decoded.height))


def fitted(height: int, width: int, short_side: int, long_side: int | None = None) -> tuple[int, int]:
    """Give height and width after resizing: the short side to ``short_side``, unless the long one passed its limit."""
    scale = short_side / min(height, width)
    if long_side is not None:
        scale = min(scale, long_side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def resized(image: Any, short_side: int, long_side: int | None = None) -> Any:
    """Resize pixels, boxes or a mask of torchvision, [..., H, W], to what :func:`fitted` says."""
    height, width = image.shape[-2:]
    return v2.functional.resize(image, list(fitted(height, width, short_side, long_side)))


def kept(source: ImageSource, rows: npt.NDArray[np.int64], lack: str) -> ImageSource:
    """Take the rows of which a task has what it needs; tell how many others, which ``lack`` it, are left out."""
    if len(rows) < len(source):
        tell(f"{len(source) - len(rows):,} of {len(source):,} {lack} and are left out")
    return source.take(rows)


def tell(text: str) -> None:
    """Warn the user."""
    warnings.warn(text, SimcoreWarning, stacklevel=4)


def by_shape(scenes: Sequence[Scene]) -> list[list[Scene]]:
    """Group scenes whose pixels have one shape: together they need no padding, which would show in the answers."""
    groups: dict[tuple[int, ...], list[Scene]] = {}
    for scene in scenes:
        groups.setdefault(tuple(scene.pixels.shape), []).append(scene)
    return list(groups.values())


@contextlib.contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Let torch's default generator start from ``seed`` inside, and stay as it was outside."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


class SceneBatches(ViewBatches):
    """Batches of augmented scenes: a list of what :meth:`Scenes.scene` gives.

    The draws of a scene depend on the seed, the epoch and its row alone, whatever the number of processes.
    """

    def __init__(self, scenes: Scenes, plan: BatchPlan, fabric: Fabric, *, num_workers: int) -> None:
        nothing: Any = None  # pixels need no view maker
        super().__init__(scenes.source, nothing, plan, nothing, fabric, num_workers=num_workers)
        self.scenes = scenes
        self._pieces: Iterator[Any] | None = None

    def decoded(self, epoch: int, step: int) -> list[Any]:
        """Give the pieces of one batch; quick if it follows the one asked for before."""
        if self._pieces is None or self._next != (epoch, step):
            scenes: Any = self.scenes
            jobs: Any = self._jobs(epoch, step)
            self._pieces = decoded(scenes, jobs, self.num_workers, pin_memory=False)
        self._next = (epoch, step + 1) if step + 1 < self.steps_per_epoch else (epoch + 1, 0)
        num_pieces = -(-len(self.plan.rows(epoch, step)) // PIECE)
        return [next(self._pieces) for _ in range(num_pieces)]

    def make_views(self, pieces: Sequence[Any], epoch: int, step: int, size: int) -> Any:
        """Put the first ``size`` scenes into one list."""
        return [scene for piece in pieces for scene in piece.scenes][:size]

    def close(self) -> None:
        """End the worker processes."""
        self._pieces = None

    def _jobs(self, epoch: int, step: int) -> Iterator[Job]:
        while True:
            for number in range(step, self.steps_per_epoch):
                rows = self.plan.rows(epoch, number).tolist()
                for first in range(0, len(rows), PIECE):
                    yield [(row, _seed(self.plan.seed, epoch, row)) for row in rows[first : first + PIECE]]
            epoch, step = epoch + 1, 0


def _seed(*parts: int) -> int:
    return int(fingerprint("scene", *parts), 16) % 2**63


def scene_batches(
    scenes: Scenes, fabric: Fabric, *, seed: int, batch_size: int, num_workers: int | None, min_batch: int
) -> SceneBatches:
    """Make the training batches: each image once an epoch, in an order drawn from (seed, epoch)."""
    plan = BatchPlan(
        num_images=len(scenes.source),
        batch_size=batch_size,
        seed=seed,
        min_batch=min_batch,
        world_size=fabric.world_size,
        rank=fabric.global_rank,
    )
    workers = spare_workers(num_workers, fabric.world_size)
    return SceneBatches(scenes, plan, fabric, num_workers=workers)


def in_order(
    scenes: Scenes, *, num_workers: int | None, at_once: int = AT_ONCE, rank: int = 0, world_size: int = 1
) -> Iterator[ScenePiece]:
    """Prepare a process's share of all rows as they are, in source order; at the end warn of what cannot be read.

    Args:
        at_once: images a piece.
        rank, world_size: which share, of how many.
    """
    rows = range(len(scenes.source))[rank::world_size]
    jobs: Any = [[(row, None) for row in rows[first : first + at_once]] for first in range(0, len(rows), at_once)]
    maker: Any = scenes
    pieces: Any = decoded(maker, jobs, spare_workers(num_workers, world_size), pin_memory=False)
    faults: list[tuple[int, str]] = []
    for piece in pieces:
        faults += piece.faults
        yield piece
    if faults:
        first = "; ".join(f"{name_of_row(scenes.source, row)} ({reason})" for row, reason in faults[:3])
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        tell(f"{len(faults)} images cannot be read: {first}{more}")
