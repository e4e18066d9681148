"""MAE (He et al. 2022, arXiv 2111.06377): see a quarter of the patches, paint the rest."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType
from typing import Any

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from simcore.backbones.mae_vit import sine_cosine_positions
from simcore.methods._heads import width
from simcore.methods._method import Method
from simcore.methods._patches import encode_visible, patch_size, patchify, pick
from simcore.settings import setting
from simcore.training.trainable import Moment, Pretrainable, StepOutput, ViewBatch
from simcore.views import Masked, draw_patch_masks

__all__ = ["MAE"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MAE(Method):
    """An encoder on the visible patches and a narrow decoder that paints the hidden ones.

    The backbone must be a vision transformer. The paper trains with AdamW (betas 0.9 and 0.95), warm-up and a
    cosine per step; ``paper`` paints normalised patches.
    """

    presets = MappingProxyType({"paper": {"norm_pix_loss": True}})
    recipes = MappingProxyType(
        {
            "paper": {
                "optimizer": "adamw",
                "betas": (0.9, 0.95),
                "batch_size": 4096,
                "lr": 0.0024,
                "weight_decay": 0.05,
                "warmup_epochs": 40,
                "epochs": 800,
                "schedule": "cosine-per-step",
            }
        }
    )

    mask_ratio: float = setting(0.75, "share of the patches that is hidden")
    norm_pix_loss: bool = setting(False, "paint patches of mean 0 and variance 1")
    decoder_dim: int = setting(512, "width of the decoder")
    decoder_depth: int = setting(8, "blocks of the decoder")
    decoder_heads: int = setting(16, "attention heads of the decoder")

    def views(self, image_size: int) -> Any:
        """One crop; the patches to hide are drawn in the training step."""
        return Masked(image_size=image_size)

    def build(self, backbone: nn.Module) -> Pretrainable:
        """Put a decoder behind ``backbone``."""
        return MAEModel(self, backbone)


class MAEModel(Pretrainable):
    """ViT encoder and decoder."""

    def __init__(self, method: MAE, backbone: nn.Module) -> None:
        super().__init__()
        self.method, self.backbone, self.patch_size = method, backbone, patch_size(backbone)
        if isinstance(getattr(backbone, "fc_norm", None), nn.Module):
            backbone.fc_norm.requires_grad_(False)  # it stands behind the pooling, which is not trained
        dim, depth, heads = method.decoder_dim, method.decoder_depth, method.decoder_heads
        self.embed = nn.Linear(width(backbone), dim)
        self.hidden_token = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.blocks = nn.Sequential(*(Block(dim, heads, qkv_bias=True) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.paint = nn.Linear(dim, self.patch_size**2 * 3)
        for module in [self.embed, self.paint, *self.blocks.modules()]:
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def training_step(self, batch: ViewBatch, moment: Moment) -> StepOutput:
        """Take one view; which patches are hidden depends on the step alone."""
        (images,) = batch.views
        patches = patchify(images, self.patch_size)
        masks = draw_patch_masks(
            len(images), patches.shape[1], torch.default_generator, mask_ratio=self.method.mask_ratio
        ).to(images.device)
        tokens = encode_visible(self.backbone, images, masks.shown)
        painted = self.decode(tokens, masks.restore)
        loss = painting_loss(painted, patches, masks.is_hidden, norm=self.method.norm_pix_loss)
        return StepOutput(loss=loss, features=tokens[:, 1:].mean(dim=1))

    def decode(self, tokens: Tensor, restore: Tensor) -> Tensor:
        """Paint all patches from the visible ones.

        Shape:
            tokens: [n, 1 + num_shown, d], CLS first; restore: int64 [n, L], where each patch is in (shown, then
            hidden); result: [n, L, patch_size**2 * 3].
        """
        embedded = self.embed(tokens)
        num, num_patches = restore.shape
        hidden = self.hidden_token.to(embedded.dtype).expand(num, num_patches + 1 - tokens.shape[1], -1)
        patches = pick(torch.cat([embedded[:, 1:], hidden], dim=1), restore)
        side = int(num_patches**0.5)
        positions = sine_cosine_positions(embedded.shape[2], side, num_patches // side).to(embedded)
        sequence = torch.cat([embedded[:, :1], patches], dim=1) + positions
        painted: Tensor = self.paint(self.norm(self.blocks(sequence)))
        return painted[:, 1:]


def painting_loss(painted: Tensor, patches: Tensor, hidden: Tensor, *, norm: bool = False) -> Tensor:
    """Mean squared error over the hidden patches; with ``norm`` each patch is first brought to mean 0, variance 1.

    Shape:
        painted, patches: [n, L, patch_size**2 * 3]; hidden: bool [n, L].
    """
    if norm:
        variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
        patches = (patches - mean) / (variance + 1e-6).sqrt()
    errors = (painted.float() - patches).square().mean(dim=-1)
    return (errors * hidden).sum() / hidden.sum()
