"""Train small methods on fixed batches and write losses and weights; run alone or under torchrun.

Every process takes its share of the same batches, so two processes must come out as one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from simcore import registry
from simcore.training import FitSettings, ViewBatch, fit, make_fabric
from simcore.training.gather import world
from simcore.training.log import read_log

# Methods whose heads have no batch normalisation, which on a CPU cannot be shared between processes.
METHODS = {
    "simclr": {},
    "simclr_sampling": {},
    "simclr_explicit_sampling": {},
    "simclr_explicit_sampling_memory": {"memory_size": 64, "projection_dim": 8},
    "moco": {"queue_size": 16, "projection_dim": 8},
    "dino": {"hidden_dim": 16, "bottleneck_dim": 8, "out_dim": 12},
}


class Net(nn.Module):
    """Convolutions without batch statistics; 8 features."""

    num_features = 8

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).flatten(1)


class Shares:
    """Four batches of 8 images, of which each process takes every ``world_size``-th."""

    steps_per_epoch = 4

    def __call__(self, epoch: int, skip_steps: int) -> Iterator[ViewBatch]:
        rank, num_processes = world()
        for step in range(skip_steps, self.steps_per_epoch):
            generator = torch.Generator().manual_seed(step)
            views = [torch.randn(8, 3, 8, 8, generator=generator)[rank::num_processes] for _ in range(2)]
            yield ViewBatch(views=views, is_target=(torch.arange(8) < 3)[rank::num_processes])


def train(name: str, out: Path) -> dict[str, Tensor]:
    """Train one method for four steps; the log is left in ``out``."""
    torch.manual_seed(0)
    model = registry.find("methods", name)(**METHODS[name]).build(Net())
    settings = FitSettings(epochs=1, lr=0.1, log_every=1, tensorboard=False, device="cpu")
    fit(model, Shares(), settings, fabric=make_fabric("cpu"), out=out / name, quiet=True)
    return {
        key: value for key, value in model.state_dict().items() if key not in ("queue", "memory")
    }  # in another order


def results(out: Path) -> dict[str, dict[str, Tensor]]:
    """Train all; give losses and weights by method."""
    found = {}
    for name in METHODS:
        weights = train(name, out)
        losses = [line["loss"] for line in read_log(out / name) if line["event"] == "step"]
        found[name] = {"losses": torch.tensor(losses), **weights}
    return found


if __name__ == "__main__":
    place = Path(sys.argv[1])
    outcome = results(place)
    if world()[0] == 0:
        torch.save(outcome, place / "results.pt")
