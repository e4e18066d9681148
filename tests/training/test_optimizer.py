from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from simcore.training.optimizer import clip_gradients, make_optimizer, set_schedule
from simcore.training.settings import FitSettings
from simcore.training.trainable import Moment, Trainable


class Net(Trainable):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.norm = nn.Linear(3, 2), nn.LayerNorm(2)

    def training_step(self, batch: Tensor, moment: Moment) -> Tensor:
        return self.norm(self.layer(batch)).square().sum()


@pytest.mark.parametrize(("name", "spared"), [("sgd", False), ("adam", False), ("adamw", True), ("lars", True)])
def test_adamw_and_lars_spare_vectors_from_weight_decay(name: str, spared: bool) -> None:
    optimizer = make_optimizer(Net(), FitSettings(optimizer=name, weight_decay=0.3))
    decays = {p.ndim: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays == {2: 0.3, 1: 0.0 if spared else 0.3}


def test_a_groups_own_scale_and_decay_are_kept_through_the_schedule() -> None:
    class Two(Net):
        def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
            return [
                {"params": self.layer.parameters(), "lr_scale": 10.0},
                {"params": self.norm.parameters(), "weight_decay": 0.0},
            ]

    settings = FitSettings(lr=0.1, weight_decay=0.2, weight_decay_end=0.4, schedule="constant")
    optimizer = make_optimizer(Two(), settings)
    assert set_schedule(optimizer, settings, Moment(5, 5, 10, 1, 10)) == pytest.approx(0.1)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([1.0, 0.1])
    assert [group["weight_decay"] for group in optimizer.param_groups] == pytest.approx([0.3, 0.0])


def test_lars_takes_the_layerwise_step_of_its_paper() -> None:
    net = Net()
    optimizer = make_optimizer(net, FitSettings(optimizer="lars", lr=2.0, momentum=0.9, weight_decay=0.01))
    weight, bias = net.layer.weight.detach().clone(), net.layer.bias.detach().clone()
    velocity, bias_velocity = torch.zeros_like(weight), torch.zeros_like(bias)
    for step in range(3):
        gradient = torch.full_like(weight, 0.5 + step)
        net.layer.weight.grad, net.layer.bias.grad = gradient.clone(), torch.ones(2)
        optimizer.step()
        decayed = gradient + 0.01 * weight
        velocity = 0.9 * velocity + 0.001 * weight.norm() / decayed.norm() * decayed
        weight = weight - 2.0 * velocity
        bias_velocity = 0.9 * bias_velocity + 1.0
        bias = bias - 2.0 * bias_velocity
    assert torch.allclose(net.layer.weight, weight)
    assert torch.allclose(net.layer.bias, bias)


def test_lars_steps_a_layer_of_zeros_plainly() -> None:
    net = Net()
    nn.init.zeros_(net.layer.weight)
    optimizer = make_optimizer(net, FitSettings(optimizer="lars", lr=1.0, weight_decay=0.0))
    net.layer.weight.grad = torch.ones_like(net.layer.weight)
    optimizer.step()
    assert torch.equal(net.layer.weight, -torch.ones_like(net.layer.weight))


def gradients() -> list[nn.Parameter]:
    held = []
    for value in (3.0, 0.1):
        parameter = nn.Parameter(torch.zeros(4))
        parameter.grad = torch.full((4,), value)
        held.append(parameter)
    return [*held, nn.Parameter(torch.zeros(2))]


def test_gradients_are_clipped_over_all_or_each_parameter() -> None:
    together = gradients()
    clip_gradients(together, 1.0, "all")
    norm = torch.cat([p.grad for p in together if p.grad is not None]).norm()
    assert norm.item() == pytest.approx(1.0, rel=1e-4)
    single = gradients()
    clip_gradients(single, 1.0, "parameter")
    assert [p.grad.norm().item() for p in single[:2] if p.grad is not None] == pytest.approx([1.0, 0.2], rel=1e-4)
