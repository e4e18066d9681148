"""Features of crops of several sizes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def features_of_crops(backbone: nn.Module, crops: Sequence[Tensor]) -> Tensor:
    """Run neighbouring crops of one size through the backbone at once; they share batch statistics.

    Shape:
        crops: [n, 3, S, S] each, S may differ; result: [num_crops * n, dim], crop by crop.
    """
    runs = itertools.groupby(crops, key=lambda crop: crop.shape[-1])
    return torch.cat([backbone(torch.cat(list(run))) for _, run in runs])
