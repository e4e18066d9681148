"""Tell a backbone from the names and shapes of its tensors alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import Tensor

from simcore.backbones.create import create_backbone
from simcore.backbones.files import tensor_groups
from simcore.backbones.mae_vit import sine_cosine_positions
from simcore.backbones.weights import best_match
from simcore.errors import SimcoreError

CONVOLUTIONAL = (
    "resnet10",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnext50_32x4d",
    "resnext101_32x4d",
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_b2",
)
# Width of the tokens -> (name where positions are learnt, name where they are MAE's sines and cosines, patch).
TRANSFORMERS = {
    192: ("dino_vit_t16", "", 16),
    384: ("dino_vit_s16", "", 16),
    768: ("dino_vit_b16", "mae_vit_base", 16),
    1024: ("vit_large_patch16_224", "mae_vit_large", 16),
    1280: ("vit_huge_patch14_224", "mae_vit_huge", 14),
}


def recognise(content: Mapping[str, Any], *, source: str) -> tuple[str, int | None]:
    """Name the backbone whose tensors a checkpoint holds, and its image size where the weights fix one.

    Nothing but a full match of names and shapes counts. Raises ``SimcoreError`` that says how to name it.
    """
    nearest, nearest_share = f"0 of {_largest_group(content)} tensors fit any", 0.0
    for name, image_size in _candidates(content):
        with torch.device("meta"):
            model = create_backbone(name, seed=0, image_size=image_size)
        match = best_match(model.state_dict(), content, source=source)
        if match.exact:
            return name, image_size
        if match.report.share > nearest_share:
            nearest_share = match.report.share
            nearest = f"{match.report.num_loaded} of {match.report.num_tensors} tensors fit {name}"
    raise SimcoreError(
        f"{source}: the file does not say of which backbone it is, and no known one fits its names and shapes "
        f"({nearest}); name it: {source}@BACKBONE (a timm name)"
    )


def _largest_group(content: Mapping[str, Any]) -> int:
    return max((len(tensors) for _, tensors in tensor_groups(content)), default=0)


def _candidates(content: Mapping[str, Any]) -> list[tuple[str, int | None]]:
    positions = _positions(content)
    if positions is None:
        return [(name, None) for name in CONVOLUTIONAL]
    num_tokens, width = positions.shape[-2], positions.shape[-1]
    learnt, fixed, patch = TRANSFORMERS.get(width, ("", "", 16))
    side = math.isqrt(num_tokens - 1)
    name = fixed if fixed and _is_sine_cosine(positions, side) else learnt
    return [(name, side * patch)] if name and timm.is_model(name) and side * side == num_tokens - 1 else []


def _positions(content: Mapping[str, Any]) -> Tensor | None:
    for _, tensors in tensor_groups(content):
        for name, value in tensors.items():
            # MAE checkpoints also hold a decoder_pos_embed.
            if name.rpartition(".")[2] == "pos_embed" and value.ndim == 3 and value.shape[1] > 1:
                return value
    return None


def _is_sine_cosine(positions: Tensor, side: int) -> bool:
    if side * side != positions.shape[1] - 1:
        return False
    expected = sine_cosine_positions(positions.shape[2], side, side)
    return bool(torch.allclose(positions.float().cpu(), expected, atol=1e-3))
