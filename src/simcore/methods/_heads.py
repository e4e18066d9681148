"""Small networks that stand on a backbone while it is pretrained."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize


def width(backbone: nn.Module) -> int:
    """Give the number of features of a timm backbone."""
    return int(backbone.num_features)  # type: ignore[arg-type]  # nn.Module types attributes as modules


def mlp(dim: int, hidden_dim: int, out_dim: int, *, norm: bool = True, num_layers: int = 2) -> nn.Sequential:
    """Stack linear layers with ReLU, and batch normalisation before it with ``norm``; the last stands bare.

    Shape:
        [n, dim] to [n, out_dim].
    """
    layers: list[nn.Module] = []
    widths = [dim] + [hidden_dim] * (num_layers - 1)
    for number, inputs in enumerate(widths[:-1]):
        layers.append(nn.Linear(inputs, widths[number + 1]))
        layers += [nn.BatchNorm1d(widths[number + 1])] if norm else []
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers, nn.Linear(widths[-1], out_dim))


class DirectionLinear(nn.Module):
    """Linear layer without bias whose rows are directions times gains: ``y = gain * (weight / |weight|) x``.

    With ``learn_gain`` False the gains stay at 1 (DINO's ``norm_last_layer``).
    """

    def __init__(self, dim: int, out_dim: int, *, learn_gain: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_dim, dim))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        self.gain = nn.Parameter(torch.ones(out_dim, 1), requires_grad=learn_gain)

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, dim] to [n, out_dim]."""
        return linear(x, self.gain * normalize(self.weight))
