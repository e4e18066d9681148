"""A network around a pretrained body, as the loop trains it, and the weights that it begins with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from simcore.artifacts.files import fingerprint
from simcore.training.trainable import Trainable


class DenseModel(Trainable):
    """A network around a pretrained ``body``, which is frozen (weights and statistics) or has a rate of its own."""

    body: nn.Module
    network: nn.Module

    def __init__(self, backbone_lr_scale: float) -> None:
        super().__init__()
        self.backbone_lr_scale = backbone_lr_scale

    def freeze_if_wanted(self) -> None:
        """Take the body out of training; to be called once it is there."""
        if self.backbone_lr_scale == 0:
            self.body.requires_grad_(False)
            self.body.eval()

    def train(self, mode: bool = True) -> DenseModel:
        """Switch everything but a frozen body: its batch statistics must not drift."""
        super().train(mode)
        if self.backbone_lr_scale == 0:
            self.body.eval()
        return self

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Give the head's parameters, and those of the body at their own rate."""
        inner = {id(parameter) for parameter in self.body.parameters()}
        outer = [p for p in self.parameters() if id(p) not in inner and p.requires_grad]
        groups: list[dict[str, Any]] = [{"params": outer, "weight_decay": weight_decay}]
        if self.backbone_lr_scale > 0:
            tuned = list(self.body.parameters())
            groups.append({"params": tuned, "weight_decay": weight_decay, "lr_scale": self.backbone_lr_scale})
        return groups

    def is_sound(self) -> bool:
        """Whether all weights are numbers."""
        return all(bool(torch.isfinite(weight).all()) for weight in self.parameters())


@contextlib.contextmanager
def drawn_weights(what: str, seed: int) -> Iterator[None]:
    """Let the fresh weights made inside depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(fingerprint(what, seed), 16) % 2**63)
        yield
