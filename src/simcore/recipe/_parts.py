"""What a recipe is made of: arms, trainings and evaluations."""

from __future__ import annotations

import dataclasses
from typing import Any

from simcore import registry
from simcore.settings import as_dict, fields_of

EMBED_SETTINGS = ("batch_size", "num_workers", "device", "precision", "engine", "ray_address")
# Of those, what changes no feature: how the work is shared out.
FREE_EMBED_SETTINGS = ("num_workers", "engine", "ray_address")
POOL, CORESET = "pool", "coreset"  # as unlabelled images


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """One line of the comparison: what is pretrained on besides the target."""

    name: str
    kind: str
    selector: Any = None
    budget: int | str | None = None
    alone: bool = False  # on what is chosen, without the target

    def seeded(self, seed: int) -> Any:
        """Give the selector with a seed, if it has one."""
        takes_seed = any(field.name == "seed" for field in fields_of(type(self.selector)))
        return dataclasses.replace(self.selector, seed=seed) if takes_seed else self.selector


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """A method, a backbone and the settings of the loop."""

    method: Any
    backbone: str
    settings: Any

    def key(self) -> dict[str, Any]:
        """All that decides what comes out."""
        return {
            "method": registry.name_of(self.method),
            "method_settings": as_dict(self.method),
            "backbone": self.backbone,
            "settings": as_dict(self.settings),
        }

    def with_settings(self, **changes: Any) -> Training:
        """Give the same training with other settings of the loop (another seed, say)."""
        return dataclasses.replace(self, settings=dataclasses.replace(self.settings, **changes))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A task, and what it takes beside the labelled images.

    Attributes:
        unlabelled: a source; :data:`POOL`, the recipe's pool; or :data:`CORESET`, what the arm adds to the target.
        attributes: label columns of train and test that the task is run for, each by itself.
    """

    task: Any
    unlabelled: str | None = None
    attributes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The task's name."""
        return registry.name_of(self.task)
