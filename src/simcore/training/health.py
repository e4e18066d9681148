"""Signs of a run going wrong: losses that are no numbers, and features that have collapsed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from simcore.errors import SimcoreWarning

MAX_ROWS = 256
COLLAPSED_SPREAD = 0.01  # a fresh ViT's CLS tokens have about 0.03


@torch.no_grad()
def feature_health(features: Tensor) -> dict[str, float]:
    """Measure how well features [n, dim] use their space, on at most 256 rows.

    ``feature_std`` is the mean deviation of unit-length features times sqrt(dim): about 1 when spread evenly over
    the sphere, 0 when all are equal (SimSiam, section 4.1, scaled). ``rankme`` is the exponential of the entropy
    of the singular values (RankMe, Garrido et al. 2023, eq. 1): between 1 and min(n, dim).
    """
    rows = features.detach()[:MAX_ROWS].float()
    unit = torch.nn.functional.normalize(rows)
    spread = float(unit.std(dim=0, unbiased=False).mean()) * math.sqrt(rows.shape[1])
    return {"feature_std": spread, "rankme": effective_rank(rows)}


def effective_rank(features: Tensor) -> float:
    """RankMe of features [n, dim]: exp of the entropy of the singular values' shares."""
    rows = features.cpu().double()
    square = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows  # its eigenvalues are their squares
    values = torch.linalg.eigvalsh(square).clamp(min=0).sqrt()
    shares = values / (values.sum() + 1e-12) + 1e-7
    return float(torch.exp(-(shares * shares.log()).sum()))


class CollapseWatch:
    """Say it in plain words when all images come to have nearly the same feature; once, until it is over."""

    def __init__(self) -> None:
        self.collapsed = False

    def look(self, health: Mapping[str, float], epoch: int) -> None:
        """Look at the figures of :func:`feature_health` after an epoch (counted from 1)."""
        before, self.collapsed = self.collapsed, health["feature_std"] < COLLAPSED_SPREAD
        if self.collapsed and not before:
            warnings.warn(
                f"epoch {epoch}: the features have collapsed (all images get nearly the same one; spread "
                f"{health['feature_std']:.3f} of 1); try a lower learning rate, a longer warm-up or a larger batch",
                SimcoreWarning,
                stacklevel=2,
            )
