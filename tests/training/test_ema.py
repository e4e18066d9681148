from __future__ import annotations

import torch
from torch import nn

from simcore.training.ema import Ema


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_it_starts_as_an_exact_copy_without_gradient() -> None:
    source = net()
    ema = Ema(source)
    assert all(torch.equal(a, b) for a, b in zip(ema.module.parameters(), source.parameters(), strict=True))
    assert not any(parameter.requires_grad for parameter in ema.parameters())


def test_weights_and_float_buffers_follow_and_integer_buffers_are_copied() -> None:
    source = net()
    ema = Ema(source)
    before = {name: value.clone() for name, value in ema.module.state_dict().items()}
    source(torch.randn(8, 3))
    with torch.no_grad():
        for parameter in source.parameters():
            parameter += 1.0
    ema.update(source, 0.75)
    for name, value in ema.module.state_dict().items():
        now = source.state_dict()[name]
        assert value.dtype == before[name].dtype
        if value.is_floating_point():
            assert torch.allclose(value, 0.75 * before[name] + 0.25 * now)
        else:
            assert torch.equal(value, now)


def test_a_decay_of_0_copies_and_of_1_keeps() -> None:
    source = net()
    ema = Ema(source)
    with torch.no_grad():
        source[0].weight.mul_(2)
    kept = ema.module[0].weight.clone()
    ema.update(source, 1.0)
    assert torch.equal(ema.module[0].weight, kept)
    ema.update(source, 0.0)
    assert torch.equal(ema.module[0].weight, source[0].weight)
