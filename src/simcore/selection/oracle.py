"""Oracle: pool rows whose class is known to be wanted; the paper's upper bound, not a method."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np

from simcore.artifacts import Embeddings, Selection
from simcore.errors import SimcoreWarning, UsageError
from simcore.selection._base import Job, Selector, selection
from simcore.settings import setting, suggest

__all__ = ["Oracle"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Oracle(Selector):
    """A random order of the pool rows of hand-picked classes (the paper's "oracle": ImageNet synsets by hand).

    ``classes`` are names, or numbers where the pool's classes have no names. Without any, they are the classes of
    the target, matched by name where both have names. Where they hold fewer rows than the budget, all of them are
    taken with a warning.
    """

    classes: tuple[str, ...] = setting((), "class names wanted; none: the classes of the target")
    seed: int = setting(0, "seed of the order")

    def __post_init__(self) -> None:
        """Take a list for a tuple, as it comes from files and the command line."""
        object.__setattr__(self, "classes", tuple(self.classes))

    def choose(self, job: Job) -> Selection:
        """Shuffle the rows of the wanted classes."""
        budget = job.budget()
        pool = job.pool_embeddings
        if (pool.labels < 0).all():
            raise UsageError("oracle needs a pool with labels; this one has none")
        wanted = self._by_name(pool) if self.classes else _of_target(job.target_embeddings, pool)
        rows = np.flatnonzero(job.pool.valid & np.isin(pool.labels, wanted))
        if not len(rows):
            raise UsageError("oracle: no pool row is of a wanted class")
        if len(rows) < budget:
            warnings.warn(
                f"budget {budget} is more than the {len(rows)} pool rows of the wanted classes; all are chosen",
                SimcoreWarning,
                stacklevel=2,
            )
        picks = np.random.default_rng(self.seed).permutation(rows)[:budget]
        return selection(picks, stop_reason="exhausted" if len(rows) < budget else job.ending)

    def _by_name(self, pool: Embeddings) -> list[int]:
        numbers = {name: number for number, name in enumerate(pool.classes)} or {
            str(number): int(number) for number in np.unique(pool.labels) if number >= 0
        }
        for name in self.classes:
            if str(name) not in numbers:
                raise UsageError(f"oracle: the pool has no class '{name}'{suggest(str(name), numbers)}")
        return [numbers[str(name)] for name in self.classes]


def _of_target(target: Embeddings, pool: Embeddings) -> list[int]:
    labels: list[int] = np.unique(target.labels[target.labels >= 0]).tolist()
    if not labels:
        raise UsageError("oracle needs class names (--classes), or a target with labels")
    if not (target.classes and pool.classes):
        return labels
    numbers = {name: number for number, name in enumerate(pool.classes)}
    return [numbers[name] for name in (target.classes[label] for label in labels) if name in numbers]
