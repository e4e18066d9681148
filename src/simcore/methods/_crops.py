"""Crops of several sizes: their features, and backbones that take them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from timm.models import is_model_in_modules
from torch import Tensor, nn

from simcore.errors import UsageError

SIZED_VITS = ("vision_transformer", "deit", "mae_vit")  # modules whose networks are built for one size


def any_size(backbone: str) -> Mapping[str, Any]:
    """Say what timm needs to be told for ``backbone`` to take images of any size (whole patches, for a ViT)."""
    name = backbone.partition(".")[0]
    is_vit = timm.is_model(name) and is_model_in_modules(name, SIZED_VITS)
    return {"dynamic_img_size": True} if is_vit else {}


def features_of_crops(backbone: nn.Module, crops: Sequence[Tensor]) -> Tensor:
    """Run neighbouring crops of one size through the backbone at once; they share batch statistics.

    Shape:
        crops: [n, 3, S, S] each, S may differ; result: [num_crops * n, dim], crop by crop.

    Raises ``UsageError`` where a ViT is given a crop that is no whole number of patches.
    """
    patch = getattr(getattr(backbone, "patch_embed", None), "patch_size", (1, 1))[0]
    for size in {crop.shape[-1] for crop in crops}:
        if size % patch:
            raise UsageError(
                f"crops of {size} pixels cannot be cut into patches of {patch}; choose --image-size and --local-size "
                "so that they can"
            )
    runs = itertools.groupby(crops, key=lambda crop: crop.shape[-1])
    return torch.cat([backbone(torch.cat(list(run))) for _, run in runs])
