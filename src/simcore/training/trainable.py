"""What the loop trains: a model that knows its own loss, and where its batches come from."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from simcore.views import ImageBatch


class Moment(NamedTuple):
    """Where a training run stands; all counts start at 0.

    ``step`` counts over the whole run. In a hook that runs after an epoch, ``epoch`` is the one just finished.
    """

    epoch: int
    step: int
    num_epochs: int
    steps_per_epoch: int
    num_steps: int

    @property
    def step_in_epoch(self) -> int:
        """The step's number within its epoch."""
        return self.step - self.epoch * self.steps_per_epoch

    @property
    def fraction(self) -> float:
        """Share of the run that lies behind, in [0, 1)."""
        return self.step / self.num_steps


@dataclasses.dataclass(kw_only=True)
class StepOutput:
    """What one training step found.

    ``loss`` is the scalar to minimise. ``logs`` are further scalars for the log. ``features`` [n, dim] and
    ``projections`` [n, projection_dim], where given, are watched for collapse.
    """

    loss: Tensor
    logs: Mapping[str, Tensor | float] = dataclasses.field(default_factory=dict)
    features: Tensor | None = None
    projections: Tensor | None = None


class Trainable(nn.Module, ABC):
    """A model that :func:`simcore.training.fit` can train.

    Whatever must outlive a kill belongs into ``state_dict``: EMA copies, queues and prototypes are submodules or
    buffers. What depends on the epoch is computed from the :class:`Moment`, never counted along. The default
    random generators are seeded anew before each step from the run's seed and the step, so dropout and the like
    may draw from them and still come out equal after a resume.
    """

    @abstractmethod
    def training_step(self, batch: Any, moment: Moment) -> Tensor | StepOutput:
        """Give the loss of one batch (scalar, differentiable); it runs under autocast where precision says so."""

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Give the optimizer's groups; a group may hold ``lr_scale`` (factor on the run's learning rate)."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return [{"params": trained, "weight_decay": weight_decay}]

    def before_update(self, moment: Moment) -> None:
        """Change gradients (frozen prototypes, say); they are unscaled and not clipped yet."""

    def after_step(self, moment: Moment) -> None:
        """Do what follows an optimizer step (EMA, say)."""

    def after_epoch(self, moment: Moment) -> None:
        """Do what follows the last step of an epoch."""

    def is_sound(self) -> bool:
        """Whether the state is worth keeping; asked before each checkpoint."""
        return True


class Pretrainable(Trainable):
    """A method's model around a backbone; ``backbone`` is trained, ``exported`` is what the run is for."""

    backbone: nn.Module

    @property
    def exported(self) -> nn.Module:
        """The backbone to keep: the trained one, unless the method says otherwise (a teacher, say)."""
        return self.backbone

    def is_sound(self) -> bool:
        """Whether all weights are numbers: the step before a loss of NaN may have spoilt them already."""
        return all(bool(torch.isfinite(weight).all()) for weight in self.parameters())


@dataclasses.dataclass(kw_only=True)
class ViewBatch:
    """What a pretraining step gets.

    Shape:
        views: float32 [n, 3, S, S] each; what they are is between the method and its view maker.
        is_target: bool [n], on the CPU: whether an image is of the target rather than of what was added to it.
        rows: int64 [n], on the CPU: which rows of the source they are; None for a batch made by hand.
    """

    views: Sequence[Tensor]
    is_target: Tensor
    rows: Tensor | None = None

    def to(self, device: torch.device) -> ViewBatch:
        """Give the batch with its views on ``device``."""
        return dataclasses.replace(self, views=[view.to(device) for view in self.views])


class Views(Protocol):
    """Make the training views of some images; every draw comes from the CPU generator."""

    def __call__(self, batch: ImageBatch, generator: torch.Generator) -> Sequence[Tensor]:
        """Give float32 views, each [B, 3, S, S]."""


class Method(Protocol):
    """What pretraining asks of a method; see ``simcore.methods``."""

    @property
    def min_batch(self) -> int:
        """Fewest images a process may train on at once."""

    @property
    def drop_last(self) -> bool:
        """Whether every batch must be a full one."""

    def views(self, image_size: int) -> Views:
        """Make the maker of its views."""

    def backbone_settings(self, backbone: str) -> Mapping[str, Any]:
        """Say what it needs of timm's ``create_model`` beside the name."""

    def rescaled(self, share: float) -> Method:
        """Adapt what is counted in epochs to a run that was shortened to ``share`` of its epochs."""

    def build(self, backbone: nn.Module) -> Pretrainable:
        """Put the backbone into the model that is trained; heads draw from torch's default generator."""


class Batches(Protocol):
    """A source of batches whose order depends on the epoch alone, never on what was drawn before.

    Where they are there, the loop also calls ``describe(epoch, step_in_epoch) -> str``, which names the items of a
    batch for an error message, and ``counts(epoch) -> Mapping[str, int]``, which says for an epoch's line in the log
    what it used and left out.
    """

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch, equal on every process, at least 1."""

    def __call__(self, epoch: int, skip_steps: int) -> Iterator[Any]:
        """Yield the batches of ``epoch`` from number ``skip_steps`` on; the loop moves them to the device.

        ``None`` in place of a batch means that nothing of it could be read: the loop counts the step and goes on.
        """
