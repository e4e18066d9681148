"""Losses of learning with unlabelled images; logits in, one number out, computed in float32.

Open-set logits are [n, 2, num_classes]: for each class its own two-way classifier, ``INLIER`` or ``OUTLIER``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

INLIER, OUTLIER = 0, 1


def soft_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy with class probabilities as targets, both [n, num_classes], averaged over all n rows.

    ``weights`` [n], a mask for instance, multiply the rows; those of weight 0 still count in the mean, as in
    FixMatch (Sohn et al. 2020, equation 4).
    """
    each = -(targets * logits.float().log_softmax(1)).sum(1)
    return each.mean() if weights is None else (each * weights).mean()


def squared_difference(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over rows and classes of (softmax(logits) - targets)² (Berthelot et al. 2019, equation 4)."""
    return (logits.float().softmax(1) - targets).square().mean()


def one_vs_all(open_logits: Tensor, labels: Tensor) -> Tensor:
    """Train each class's inlier classifier: the right class as inlier, the hardest wrong one as outlier.

    ``mean(-log p_y(inlier) + max over j ≠ y of -log p_j(outlier))`` (Saito et al. 2021, equation 1).

    Args:
        open_logits: [n, 2, num_classes].
        labels: int64 [n].
    """
    logs = open_logits.float().log_softmax(1)
    own = F.one_hot(labels, logs.shape[2]).bool()
    positive = -logs[:, INLIER][own]
    hardest = (-logs[:, OUTLIER]).masked_fill(own, 0.0).amax(1)  # every term is 0 or more
    return (positive + hardest).mean()


def open_entropy(open_logits: Tensor) -> Tensor:
    """Mean entropy of the inlier classifiers (Saito et al. 2021, equation 2, with the mean over the classes)."""
    logs = open_logits.float().log_softmax(1)
    return -(logs.exp() * logs).sum(1).mean()


def soft_consistency(one: Tensor, other: Tensor) -> Tensor:
    """Mean over images of the squared difference of all inlier classifiers on two views (equation 3)."""
    return (one.float().softmax(1) - other.float().softmax(1)).square().sum((1, 2)).mean()


def outlier_probability(logits: Tensor, open_logits: Tensor) -> Tensor:
    """Give the probability, [n], that an image is an outlier to the class that it looks most like."""
    outlier = open_logits.float().softmax(1)[:, OUTLIER]
    return outlier.gather(1, logits.argmax(1, keepdim=True))[:, 0]


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values [n] where ``mask`` is 1; 0 where it is so nowhere."""
    return (values * mask).sum() / mask.sum().clamp(min=1.0)


def rotated(images: Tensor, quarters: Tensor) -> Tensor:
    """Turn each square image [n, 3, S, S] by its number of quarter turns, int64 [n]."""
    turned = torch.stack([images.rot90(turn, (2, 3)) for turn in range(4)])
    return turned[quarters, torch.arange(len(images), device=images.device)]
