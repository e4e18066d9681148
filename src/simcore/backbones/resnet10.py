"""ResNet-10: the 18-layer network of He et al. (2016, table 1) with one basic block a stage instead of two."""

from __future__ import annotations

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, ResNet

__all__ = ["resnet10"]

default_cfgs = generate_default_cfgs(
    {
        "resnet10": {
            "input_size": (3, 224, 224),
            "pool_size": (7, 7),
            "crop_pct": 0.875,
            "interpolation": "bilinear",
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
            "first_conv": "conv1",
            "classifier": "fc",
        }
    }
)


@register_model
def resnet10(pretrained: bool = False, **kwargs: Any) -> ResNet:
    """Build ResNet-10; features are [B, 512]."""
    settings = {"block": BasicBlock, "layers": (1, 1, 1, 1), **kwargs}
    return build_model_with_cfg(ResNet, "resnet10", pretrained, **settings)
