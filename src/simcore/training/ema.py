"""A slowly following copy of a module, for teachers and momentum encoders."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


class Ema(nn.Module):
    """Exponential moving average of a module: weights and float buffers follow, integer buffers are copied.

    It starts as an exact copy of ``source`` and takes no gradient. As a submodule it is saved with the model.
    """

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(source)
        self.module.requires_grad_(False)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the copy."""
        return self.module(*args, **kwargs)

    @torch.no_grad()
    def update(self, source: nn.Module, decay: float) -> None:
        """Move towards ``source``: ``copy = decay * copy + (1 - decay) * source``."""
        followed = [(mine, theirs) for mine, theirs in _pairs(self.module, source) if mine.is_floating_point()]
        copied = [(mine, theirs) for mine, theirs in _pairs(self.module, source) if not mine.is_floating_point()]
        torch._foreach_lerp_([mine for mine, _ in followed], [theirs for _, theirs in followed], 1.0 - decay)
        for mine, theirs in copied:
            mine.copy_(theirs)


def _pairs(mine: nn.Module, theirs: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    yield from zip(mine.parameters(), theirs.parameters(), strict=True)
    yield from zip(mine.buffers(), theirs.buffers(), strict=True)
