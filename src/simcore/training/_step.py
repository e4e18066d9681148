"""One optimizer step: forward, backward, clipping, update. The loop around it is in ``loop.py``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from simcore.artifacts.files import fingerprint
from simcore.training.optimizer import clip_gradients, make_optimizer, set_schedule
from simcore.training.settings import FitSettings
from simcore.training.trainable import Moment, StepOutput, Trainable


class Stepper:
    """A model with its optimizer on its device, ready to be stepped."""

    def __init__(self, model: Trainable, settings: FitSettings, fabric: Fabric) -> None:
        self.model, self.settings, self.fabric = model.to(fabric.device), settings, fabric
        self.optimizer = make_optimizer(model, settings)
        self.lr = settings.lr
        self._wrapped, self._wrapped_optimizer = fabric.setup(_Forward(model), self.optimizer)

    def step(self, batch: Any, moment: Moment) -> StepOutput:
        """Take one optimizer step on a batch; give what it found, nothing of it waited for."""
        settings, precision = self.settings, self.fabric.strategy.precision
        self.lr = set_schedule(self.optimizer, settings, moment)
        seed_step(settings.seed, moment.step, self.fabric.global_rank)
        loss, logs, seen = self._wrapped(_Sealed(self.fabric.to_device(batch), moment))
        self.fabric.backward(loss)
        self.model.before_update(moment)
        if settings.clip_grad > 0:
            precision.unscale_gradients(self.optimizer)
            clip_gradients(self.model.parameters(), settings.clip_grad, settings.clip_by)
        self._wrapped_optimizer.step()
        self._wrapped_optimizer.zero_grad()
        self.model.after_step(moment)
        return StepOutput(loss=loss.detach(), logs=logs, **seen)

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.fabric.strategy.precision.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over a :meth:`state`; ``RuntimeError``, ``ValueError`` or ``KeyError`` where it does not fit."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            self.fabric.strategy.precision.load_state_dict(state["scaler"])


class _Sealed:
    """A batch on its way through Fabric and DDP, which would otherwise convert and copy what they find inside."""

    __slots__ = ("batch", "moment")

    def __init__(self, batch: Any, moment: Moment) -> None:
        self.batch, self.moment = batch, moment


class _Forward(nn.Module):
    """What Fabric wraps, since autocast and DDP act on ``forward`` alone."""

    def __init__(self, model: Trainable) -> None:
        super().__init__()
        self.model = model

    def forward(self, sealed: _Sealed) -> tuple[Tensor, dict[str, Any], dict[str, Tensor]]:
        output = self.model.training_step(sealed.batch, sealed.moment)
        if not isinstance(output, StepOutput):
            return output, {}, {}
        seen = {"features": output.features, "projections": output.projections}
        watched = {name: rows.detach() for name, rows in seen.items() if rows is not None}
        return output.loss, dict(output.logs), watched


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch's default generators (dropout, stochastic depth) from what is being done, not from the past."""
    torch.manual_seed(int(fingerprint("step", seed, step, rank), 16) % 2**63)
