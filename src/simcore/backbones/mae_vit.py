"""Vision transformers as MAE trains them (He et al. 2022, appendix A.1): fixed sine-cosine positions.

The feature is the mean over the patch tokens after the one final LayerNorm, which is the norm that the encoder
was trained with. (The published retrieval code normed the tokens, averaged, and applied the same LayerNorm to
the average once more; the second norm is left out here: it was never trained to see averages, and it takes the
length of the feature away.)
"""

from __future__ import annotations

from typing import Any

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

__all__ = ["mae_vit_base", "mae_vit_huge", "mae_vit_large", "sine_cosine_positions"]

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

default_cfgs = generate_default_cfgs({name: dict(_INPUT) for name in ("mae_vit_base", "mae_vit_large", "mae_vit_huge")})


class MaskedViT(VisionTransformer):
    """timm's ViT, started as in MAE: positions fixed, linear layers Xavier-uniform, CLS token normal(0.02)."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        height, width = self.patch_embed.grid_size
        positions = sine_cosine_positions(self.embed_dim, height, width)
        self.pos_embed = nn.Parameter(positions.to(self.patch_embed.proj.weight.device), requires_grad=False)
        self.cls_token = nn.Parameter(nn.init.normal_(torch.empty(1, 1, self.embed_dim), std=0.02))
        kernel = self.patch_embed.proj.weight
        nn.init.xavier_uniform_(kernel.data.view(kernel.shape[0], -1))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)


def sine_cosine_positions(dim: int, height: int, width: int) -> Tensor:
    """Give the fixed positions of a patch grid behind a zero row for CLS, float32 [1, 1 + height*width, dim].

    The first half of a row encodes the column, the second the line; each half is sines, then cosines, of the
    position times 10000^(-4i/dim), i = 0 … dim/4 - 1.
    """
    frequencies = 10_000.0 ** (-torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))
    columns = torch.arange(width, dtype=torch.float64).repeat(height)
    lines = torch.arange(height, dtype=torch.float64).repeat_interleave(width)
    halves = []
    for place in (columns, lines):
        angle = place[:, None] * frequencies
        halves += [angle.sin(), angle.cos()]
    return torch.cat([torch.zeros(1, dim), torch.cat(halves, dim=1).float()])[None]


def _build(name: str, pretrained: bool, shape: tuple[int, int, int, int], given: dict[str, Any]) -> VisionTransformer:
    patch, dim, depth, heads = shape
    settings = {
        "patch_size": patch,
        "embed_dim": dim,
        "depth": depth,
        "num_heads": heads,
        "qkv_bias": True,
        "global_pool": "avg",
        "fc_norm": False,
        **given,
    }
    return build_model_with_cfg(MaskedViT, name, pretrained, **settings)


@register_model
def mae_vit_base(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """Build ViT-B/16; features are [B, 768]."""
    return _build("mae_vit_base", pretrained, (16, 768, 12, 12), kwargs)


@register_model
def mae_vit_large(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """Build ViT-L/16; features are [B, 1024]."""
    return _build("mae_vit_large", pretrained, (16, 1024, 24, 16), kwargs)


@register_model
def mae_vit_huge(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """Build ViT-H/14; features are [B, 1280]."""
    return _build("mae_vit_huge", pretrained, (14, 1280, 32, 16), kwargs)
