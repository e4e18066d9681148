"""LARS: SGD whose step is scaled, layer by layer, to the size of the weights (You et al. 2017, arXiv 1708.03888)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class Lars(Optimizer):
    """Momentum SGD with trust ratio ``trust * |w| / |g + decay * w|`` for every parameter of 2 or more dimensions.

    Biases and norm gains are stepped without the ratio, as in SimCLR's use of it (Chen et al. 2020, appendix B.6).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._step_one(weight, group)
        return loss

    def _step_one(self, weight: Tensor, group: dict[str, Any]) -> None:
        change = weight.grad.add(weight, alpha=group["weight_decay"])  # type: ignore[union-attr]
        if weight.ndim > 1:
            weight_norm, change_norm = weight.norm(), change.norm()
            ratio = group["trust"] * weight_norm / change_norm
            change.mul_(torch.where((weight_norm > 0) & (change_norm > 0), ratio, torch.ones_like(ratio)))
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        velocity: Tensor = state["momentum_buffer"]
        velocity.mul_(group["momentum"]).add_(change)
        weight.add_(velocity, alpha=-group["lr"])
