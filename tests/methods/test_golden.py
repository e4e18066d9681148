"""The first three losses of every method, pinned: a change of them is a change of what is trained.

The numbers were made by this file (``python tests/methods/test_golden.py`` prints them anew) with torch 2.14 on a
CPU. They change only when a method is meant to change.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from simcore import registry
from simcore.backbones import create_backbone
from simcore.training import FitSettings, ViewBatch, fit
from simcore.training.log import read_log

GOLDEN: dict[str, list[float]] = json.loads((Path(__file__).parent / "golden_losses.json").read_text())

SMALL: dict[str, dict[str, Any]] = {
    "byol": {"hidden_dim": 16, "projection_dim": 8},
    "dino": {"hidden_dim": 16, "bottleneck_dim": 8, "out_dim": 12, "num_local_crops": 1},
    "mae": {"decoder_dim": 16, "decoder_depth": 2, "decoder_heads": 2},
    "moco": {"queue_size": 12, "projection_dim": 8},
    "simsiam": {"hidden_dim": 16, "projection_dim": 8, "predictor_dim": 16},
    "swav": {"hidden_dim": 16, "projection_dim": 8, "num_prototypes": 5, "num_local_crops": 1},
}


class Net(nn.Module):
    """Two convolutions with batch statistics; 6 features."""

    num_features = 6

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6)]
        self.body = nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.body(x)
        return result


class Fixed:
    """Three batches of random views, as many and as large as the method wants."""

    steps_per_epoch = 3

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes

    def __call__(self, epoch: int, skip_steps: int) -> Iterator[ViewBatch]:
        for step in range(self.steps_per_epoch):
            generator = torch.Generator().manual_seed(step)
            views = [torch.randn(8, 3, size, size, generator=generator) for size in self.sizes]
            yield ViewBatch(views=views, is_target=torch.arange(8) < 4)


def losses(name: str) -> list[float]:
    method = registry.find("methods", name)(**SMALL.get(name, {}))
    sizes = {"mae": [32], "dino": [16, 16, 12], "swav": [16, 16, 12]}.get(name, [16, 16])
    torch.manual_seed(0)
    model = method.build(create_backbone("test_vit", seed=0, image_size=32) if name == "mae" else Net())
    settings = FitSettings(epochs=1, lr=0.05, log_every=1, tensorboard=False, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        fit(model, Fixed(sizes), settings, out=Path(folder), quiet=True)
        return [line["loss"] for line in read_log(Path(folder)) if line["event"] == "step"]


@pytest.mark.parametrize("name", registry.names("methods"))
def test_the_first_three_losses_are_the_pinned_ones(name: str) -> None:
    if name not in GOLDEN:
        pytest.skip(f"the losses of {name} are not pinned yet: run this file and add them to golden_losses.json")
    assert losses(name) == pytest.approx(GOLDEN[name], rel=1e-4)


if __name__ == "__main__":
    print(json.dumps({name: losses(name) for name in registry.names("methods")}, indent=2))
