"""Losses as they come in: checked to be numbers, averaged over the epoch, without making a GPU wait."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from lightning_fabric import Fabric

from simcore.fetch import Fetch
from simcore.training.trainable import Moment, StepOutput


class NotANumber(ArithmeticError):  # noqa: N818
    """The loss of the step at ``moment`` is NaN or infinite."""

    def __init__(self, loss: float, moment: Moment) -> None:
        super().__init__(f"the loss is {loss} at epoch {moment.epoch + 1}, step {moment.step + 1}")
        self.moment = moment


@dataclasses.dataclass(frozen=True, kw_only=True)
class SettledStep:
    """A step whose loss is known: the mean over the processes."""

    moment: Moment
    loss: float
    lr: float
    logs: Mapping[str, Any]

    def values(self) -> dict[str, float]:
        """Numbers for the log; this waits for the device."""
        return {"loss": self.loss, "lr": self.lr, **{name: float(value) for name, value in self.logs.items()}}


class LossMeter:
    """Take each step's loss, and look at it only when the next step is under way.

    Beside the loss, every process says whether it was asked to stop, so that all stop after the same step.
    """

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self.total, self.count = 0.0, 0
        self.asked_to_stop = False
        self._pending: tuple[Moment, Fetch, float, Mapping[str, Any]] | None = None

    @property
    def mean(self) -> float:
        """Mean loss of the epoch so far; NaN before the first."""
        return self.total / self.count if self.count else math.nan

    def push(self, moment: Moment, output: StepOutput, lr: float, stop: bool) -> SettledStep | None:
        """Note a step's loss and give the step before it, settled."""
        loss = output.loss.float()
        numbers = torch.stack([loss, torch.full_like(loss, float(stop))])
        if self.fabric.world_size > 1:
            torch.distributed.all_reduce(numbers)
            numbers /= self.fabric.world_size
        on_the_way, before = Fetch(numbers), self.settle()
        self._pending = (moment, on_the_way, lr, output.logs)
        return before

    def settle(self) -> SettledStep | None:
        """Wait for the newest step's loss; ``NotANumber`` if it is none."""
        if self._pending is None:
            return None
        (moment, numbers, lr, logs), self._pending = self._pending, None
        loss, stop = numbers.wait().tolist()
        if not math.isfinite(loss):
            raise NotANumber(loss, moment)
        self.asked_to_stop = self.asked_to_stop or stop > 0
        self.total, self.count = self.total + loss, self.count + 1
        return SettledStep(moment=moment, loss=loss, lr=lr, logs=logs)

    def end_epoch(self) -> None:
        """Begin a new mean."""
        self.total, self.count = 0.0, 0
