"""SimCLR with hard negatives weighted up (Robinson et al. 2021, arXiv 2010.04592)."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn

from simcore.methods._contrast import similarities
from simcore.methods.simclr import SimCLR, SimCLRModel
from simcore.settings import setting
from simcore.training.trainable import Pretrainable

__all__ = ["SimCLRSampling"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimCLRSampling(SimCLR):
    """Negatives are drawn, in expectation, by their hardness, and corrected for those that are positives."""

    beta: float = setting(1.0, "how much hard negatives are preferred; 0: not at all")
    tau_plus: float = setting(0.01, "chance that a random image is of the anchor's class")

    def build(self, backbone: nn.Module) -> Pretrainable:
        """Put a projector on ``backbone``."""
        return _Model(self, backbone)


class _Model(SimCLRModel):
    method: SimCLRSampling

    def loss(self, projections: Tensor) -> Tensor:
        method = self.method
        return debiased_hard_loss(projections, method.temperature, method.beta, method.tau_plus)


def debiased_hard_loss(projections: Tensor, temperature: float, beta: float, tau_plus: float) -> Tensor:
    """Equation 4 of the paper with the clamp of its appendix: mean of ``-log(pos / (pos + neg))``.

    With N negatives ``e_j = exp(s_j / T)``: ``neg = max((N mean(e^beta e) / mean(e^beta) - tau N pos) / (1 - tau),
    N exp(-1 / T))``.

    Shape:
        projections: [2n, dim], first views then second views.
    """
    with torch.autocast(projections.device.type, enabled=False):
        logits, positives = similarities(projections, temperature)
        num_negatives = logits.shape[1] - 2
        positive = logits.gather(1, positives[:, None])
        negative = logits.scatter(1, positives[:, None], -torch.inf)
        importance = (beta * negative).masked_fill(negative.isinf(), -torch.inf)
        # sum(e^beta e) / mean(e^beta), in logarithms so that no power overflows
        hard = torch.logsumexp(importance + negative, 1) - torch.logsumexp(importance, 1)
        weighted = torch.exp(hard) * num_negatives
        debiased = (weighted - tau_plus * num_negatives * positive.squeeze(1).exp()) / (1 - tau_plus)
        floor = num_negatives * math.exp(-1 / temperature)
        mass = debiased.clamp(min=floor).log()
        return (torch.logaddexp(positive.squeeze(1), mass) - positive.squeeze(1)).mean()
