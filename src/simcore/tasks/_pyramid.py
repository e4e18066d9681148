"""Maps of several resolutions from a loaded timm backbone, with all of its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from timm.models._features import FeatureGetterNet
from torch import Tensor, nn

from simcore.embedding import Encoder
from simcore.errors import UsageError
from simcore.tasks._rebuild import rebuilt

STRIDES = (8, 16, 32)


class Pyramid(nn.Module):
    """Maps of a backbone at rising strides.

    A backbone with one stride alone (a vision transformer) gives its last map doubled, as it is, and halved (after
    Li et al. 2022, section 3, with plain resizing).

    Attributes:
        channels: of each map.
        strides: input pixels from one cell of each map to the next.
    """

    def __init__(
        self, model: nn.Module, indices: Sequence[int], channels: Sequence[int], strides: Sequence[int]
    ) -> None:
        super().__init__()
        self.is_flat = len(indices) == 1 and len(strides) > 1
        self.body = FeatureGetterNet(model, out_indices=tuple(indices), norm=self.is_flat)
        self.channels, self.strides = tuple(channels), tuple(strides)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Give one map a stride.

        Shape:
            - images: float32 [B, 3, H, W], normalised.
            - output: [B, channels[i], H / strides[i], W / strides[i]] each.
        """
        maps: list[Tensor] = self.body(images)
        if not self.is_flat:
            return maps
        (only,) = maps
        doubled = nn.functional.interpolate(only, scale_factor=2.0, mode="bilinear", align_corners=False)
        return [doubled, only, nn.functional.max_pool2d(only, 2, ceil_mode=True)]


def pyramid_of(encoder: Encoder) -> Pyramid:
    """Make the pyramid of strides 8, 16 and 32 of the encoder's backbone (a copy), or the nearest that it has.

    Raises ``UsageError`` for a backbone that gives no maps.
    """
    listed = stages_of(encoder.backbone)
    if not hasattr(encoder.backbone, "forward_intermediates") or not listed:
        raise UsageError(
            f"{encoder.backbone_name} gives no feature maps; take a convolutional one or a plain transformer"
        )
    reductions = {int(info["reduction"]) for info in listed}
    if len(reductions) == 1:
        return _flat(encoder, listed, reductions.pop())
    last = {int(info["reduction"]): (place, int(info["num_chs"])) for place, info in enumerate(listed)}
    strides = [stride for stride in STRIDES if stride in last] or sorted(last)[-3:]
    places, channels = zip(*(last[stride] for stride in strides), strict=True)
    return Pyramid(rebuilt(encoder), places, channels, strides)


def _flat(encoder: Encoder, listed: Sequence[dict[str, Any]], stride: int) -> Pyramid:
    try:
        model = rebuilt(encoder, dynamic_img_size=True, dynamic_img_pad=True)
    except UsageError as error:
        raise UsageError(f"{encoder.backbone_name} takes square images of one size only") from error
    return Pyramid(model, [len(listed) - 1], [int(listed[-1]["num_chs"])] * 3, [stride // 2, stride, stride * 2])


def stages_of(model: nn.Module) -> list[dict[str, Any]]:
    """List what timm says of a model's maps: ``num_chs`` and ``reduction`` of each."""
    known: Any = getattr(model, "feature_info", None) or []
    return list(getattr(known, "info", known))


def measured_stride(body: nn.Module, side: int = 128) -> int:
    """Find by trial, with an image of ``side`` pixels, how many lie between two cells of the last map."""
    was_training = body.training
    body.eval()
    with torch.no_grad():
        last = body(torch.zeros(1, 3, side, side))[-1]
    body.train(was_training)
    return side // int(last.shape[-1])
