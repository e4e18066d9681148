"""Images with their boxes or masks: prepared by the decoding processes, in batches for the loop or in order."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric

from simcore.artifacts.files import fingerprint
from simcore.errors import SimcoreWarning
from simcore.images import ImageFault, ImageSource
from simcore.training._data import ViewBatches
from simcore.training._decoding import PIECE, decoded, spare_workers
from simcore.training._faults import name_of_row
from simcore.training._plan import BatchPlan

Job = list[tuple[int, int | None]]
IN_ORDER = 16  # images a piece of the test set


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


def in_order(scenes: Scenes, fabric: Fabric, *, num_workers: int | None) -> Iterator[ScenePiece]:
    """Prepare this process's share of all rows without augmentation, in source order; warn of what cannot be read."""
    faults: list[tuple[int, str]] = []
    rows: npt.NDArray[np.int64] = np.arange(len(scenes.source))[fabric.global_rank :: fabric.world_size]
    workers = spare_workers(num_workers, fabric.world_size)
    jobs: Any = [
        [(int(row), None) for row in rows[first : first + IN_ORDER]] for first in range(0, len(rows), IN_ORDER)
    ]
    maker: Any = scenes
    pieces: Any = decoded(maker, jobs, workers, pin_memory=False)
    for piece in pieces:
        faults += piece.faults
        yield piece
    if faults:
        first = "; ".join(f"{name_of_row(scenes.source, row)} ({reason})" for row, reason in faults[:3])
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        warnings.warn(f"{len(faults)} images cannot be read: {first}{more}", SimcoreWarning, stacklevel=2)
