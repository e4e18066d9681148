"""Vision transformers seen patch by patch, for masked autoencoding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from simcore.errors import UsageError


def patch_size(backbone: nn.Module) -> int:
    """Give the side of a ViT's patches in pixels; ``UsageError`` for another kind of network."""
    vit: Any = backbone
    if not all(
        getattr(vit, name, None) is not None for name in ("patch_embed", "pos_embed", "cls_token", "blocks", "norm")
    ):
        raise UsageError("masked autoencoding needs a vision transformer as backbone, such as mae_vit_base")
    return int(vit.patch_embed.patch_size[0])


def patchify(images: Tensor, size: int) -> Tensor:
    """Cut images [n, 3, H, W] into patches, line by line: [n, L, size * size * 3], colour running fastest."""
    num, channels, height, width = images.shape
    rows, columns = height // size, width // size
    cells = images.view(num, channels, rows, size, columns, size)
    return cells.permute(0, 2, 4, 3, 5, 1).reshape(num, rows * columns, size * size * channels)


def pick(tokens: Tensor, places: Tensor) -> Tensor:
    """Take tokens [n, L, d] at places [n, k]: [n, k, d]."""
    return tokens.gather(1, places[:, :, None].expand(-1, -1, tokens.shape[2]))


def encode_visible(backbone: nn.Module, images: Tensor, visible: Tensor) -> Tensor:
    """Run a timm ViT on some patches of each image alone.

    Shape:
        images: [n, 3, S, S]; visible: places of the patches, int64 [n, k]; result: tokens [n, 1 + k, d], CLS first.
    """
    vit: Any = backbone
    tokens: Tensor = vit.patch_embed(images)
    if tokens.ndim == 4:  # dynamic_img_size leaves the grid in place
        tokens = tokens.flatten(1, 2)
    num_patches, positions = tokens.shape[1], vit.pos_embed
    tokens = pick(tokens + positions[:, -num_patches:], visible)
    first = vit.cls_token + (positions[:, :1] if positions.shape[1] > num_patches else 0.0)
    tokens = torch.cat([first.expand(len(tokens), -1, -1), tokens], dim=1)
    encoded: Tensor = vit.norm(vit.blocks(vit.norm_pre(tokens)))
    return encoded
