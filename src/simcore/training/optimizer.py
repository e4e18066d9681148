"""From settings to an optimizer, its groups, and gradient clipping."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from simcore.training._lars import Lars
from simcore.training.schedule import learning_rate, weight_decay
from simcore.training.settings import FitSettings
from simcore.training.trainable import Moment, Trainable


def make_optimizer(model: Trainable, settings: FitSettings) -> Optimizer:
    """Build the optimizer over the model's groups; AdamW and LARS spare biases and 1-D parameters from decay."""
    groups = model.parameter_groups(settings.weight_decay)
    if settings.optimizer in ("adamw", "lars"):
        groups = [part for group in groups for part in _vectors_apart(group)]
    for group in groups:
        group.setdefault("lr_scale", 1.0)
        group["start_weight_decay"] = group.setdefault("weight_decay", settings.weight_decay)
    lr, betas = settings.lr, (settings.betas[0], settings.betas[1])
    match settings.optimizer:
        case "adam":
            return Adam(groups, lr, betas=betas)
        case "adamw":
            return AdamW(groups, lr, betas=betas)
        case "lars":
            return Lars(groups, lr, momentum=settings.momentum)
        case _:
            return SGD(groups, lr, momentum=settings.momentum, nesterov=settings.momentum > 0)


def _vectors_apart(group: dict[str, Any]) -> list[dict[str, Any]]:
    """Split a group into its matrices and its vectors, the latter without weight decay; no empty groups."""
    params: list[nn.Parameter] = list(group["params"])
    matrices = [parameter for parameter in params if parameter.ndim > 1]
    vectors = [parameter for parameter in params if parameter.ndim <= 1]
    split = [{**group, "params": matrices}, {**group, "params": vectors, "weight_decay": 0.0}]
    return [part for part in split if part["params"]]


def set_schedule(optimizer: Optimizer, settings: FitSettings, moment: Moment) -> float:
    """Put the moment's learning rate and weight decay into every group; give the learning rate at scale 1."""
    lr = learning_rate(settings, moment)
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
        group["weight_decay"] = weight_decay(settings, moment, group["start_weight_decay"])
    return lr


def clip_gradients(parameters: Iterable[Tensor], max_norm: float, by: str) -> None:
    """Shrink gradients (already unscaled) to ``max_norm``, over ``all`` of them or each ``parameter`` by itself.

    Non-finite gradients pass: under fp16 the scaler skips such a step and lowers its scale.
    """
    held = [parameter for parameter in parameters if parameter.grad is not None]
    if by == "all":
        torch.nn.utils.clip_grad_norm_(held, max_norm)
        return
    gradients = [parameter.grad for parameter in held if parameter.grad is not None]
    norms = torch.stack(torch._foreach_norm(gradients)) if gradients else torch.zeros(0)
    torch._foreach_mul_(gradients, list((max_norm / (norms + 1e-6)).clamp(max=1.0).unbind()))
