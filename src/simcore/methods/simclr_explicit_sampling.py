"""SimCLR against the hardest share of the batch alone."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from simcore.methods._contrast import similarities
from simcore.methods.simclr import SimCLR, SimCLRModel
from simcore.settings import setting
from simcore.training.trainable import Pretrainable

__all__ = ["SimCLRExplicitSampling"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimCLRExplicitSampling(SimCLR):
    """Each view is told from its ``negative_share`` most similar negatives (OpenSSL-SimCore, table 17)."""

    temperature: float = setting(0.1, "divides the cosines of NT-Xent")
    negative_share: float = setting(0.7, "share of the batch's views that are kept as negatives, the hardest")

    def build(self, backbone: nn.Module) -> Pretrainable:
        """Put a projector on ``backbone``."""
        return _Model(self, backbone)


class _Model(SimCLRModel):
    method: SimCLRExplicitSampling

    def loss(self, projections: Tensor) -> Tensor:
        return hardest_loss(projections, self.method.temperature, self.method.negative_share)


def hardest_loss(projections: Tensor, temperature: float, share: float) -> Tensor:
    """NT-Xent with only the ``int(2N * share)`` most similar negatives, scaled by temperature / 0.07 as published.

    Shape:
        projections: [2n, dim], first views then second views.
    """
    with torch.autocast(projections.device.type, enabled=False):
        logits, positives = similarities(projections, temperature)
        own = logits.gather(1, positives[:, None])
        negatives = logits.scatter(1, positives[:, None], -torch.inf)
        num_kept = max(1, min(int(logits.shape[1] * share), logits.shape[1] - 2))
        kept = torch.cat([own, negatives.topk(num_kept, dim=1).values], dim=1)
        loss = cross_entropy(kept, kept.new_zeros(len(kept), dtype=torch.int64))
        return loss * (temperature / 0.07)
