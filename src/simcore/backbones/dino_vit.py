"""Vision transformers as DINO trains them (Caron et al. 2021, table 1): patch 16, CLS output, qkv bias.

The position embeddings are interpolated to the size of the input, so that 224 px and 96 px crops go through
one network.
"""

from __future__ import annotations

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.vision_transformer import VisionTransformer

__all__ = ["dino_vit_b16", "dino_vit_s16", "dino_vit_t16"]

_INPUT = {
    "input_size": (3, 224, 224),
    "fixed_input_size": True,
    "crop_pct": 0.875,
    "interpolation": "bicubic",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "first_conv": "patch_embed.proj",
    "classifier": "head",
}

default_cfgs = generate_default_cfgs({name: dict(_INPUT) for name in ("dino_vit_t16", "dino_vit_s16", "dino_vit_b16")})


def _build(name: str, pretrained: bool, embed_dim: int, num_heads: int, given: dict[str, Any]) -> VisionTransformer:
    settings = {
        "patch_size": 16,
        "embed_dim": embed_dim,
        "depth": 12,
        "num_heads": num_heads,
        "qkv_bias": True,
        "global_pool": "token",
        "dynamic_img_size": True,
        **given,
    }
    return build_model_with_cfg(VisionTransformer, name, pretrained, **settings)


@register_model
def dino_vit_t16(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """Build the tiny one; features are [B, 192]."""
    return _build("dino_vit_t16", pretrained, 192, 3, kwargs)


@register_model
def dino_vit_s16(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """Build the small one; features are [B, 384]."""
    return _build("dino_vit_s16", pretrained, 384, 6, kwargs)


@register_model
def dino_vit_b16(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """Build the base one; features are [B, 768]."""
    return _build("dino_vit_b16", pretrained, 768, 12, kwargs)
