"""Signs of a run going wrong: features that have collapsed, and a projector that has died under sound features."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from simcore.errors import SimcoreWarning

MAX_ROWS = 256
COLLAPSED_SPREAD = 0.01  # a fresh ViT's CLS tokens have about 0.03
WATCHED = {"feature_std": "features", "projection_std": "projections"}


@torch.no_grad()
def feature_health(features: Tensor) -> dict[str, float]:
    """Measure how well features [n, dim] use their space, on at most 256 rows.

    ``feature_std`` is the mean deviation of unit-length features times sqrt(dim): about 1 when spread evenly over
    the sphere, 0 when all are equal (SimSiam, section 4.1, scaled). ``rankme`` is the exponential of the entropy
    of the singular values (RankMe, Garrido et al. 2023, eq. 1): between 1 and min(n, dim).
    """
    rows = features.detach()[:MAX_ROWS].float()
    return {"feature_std": spread(rows), "rankme": effective_rank(rows)}


@torch.no_grad()
def spread(rows: Tensor) -> float:
    """Mean deviation of the directions of at most 256 rows [n, dim], times sqrt(dim)."""
    unit = torch.nn.functional.normalize(rows.detach()[:MAX_ROWS].float())
    return float(unit.std(dim=0, unbiased=False).mean()) * math.sqrt(rows.shape[1])


def effective_rank(features: Tensor) -> float:
    """RankMe of features [n, dim]: exp of the entropy of the singular values' shares."""
    rows = features.cpu().double()
    square = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows  # its eigenvalues are their squares
    values = torch.linalg.eigvalsh(square).clamp(min=0).sqrt()
    shares = values / (values.sum() + 1e-12) + 1e-7
    return float(torch.exp(-(shares * shares.log()).sum()))


class CollapseWatch:
    """Say it in plain words when all images come to have nearly the same feature; once, until it is over.

    Projections are watched too: a projector of dead ReLUs gives one projection to all images, and then nothing is
    learnt, while the features of its fresh backbone look sound.
    """

    def __init__(self) -> None:
        self.collapsed: set[str] = set()

    def look(self, health: Mapping[str, float], epoch: int) -> None:
        """Look at ``feature_std`` and ``projection_std``, where given, after an epoch (counted from 1)."""
        before, self.collapsed = self.collapsed, {n for n in WATCHED if health.get(n, 1.0) < COLLAPSED_SPREAD}
        for name in sorted(self.collapsed - before):
            warnings.warn(
                f"epoch {epoch}: the {WATCHED[name]} have collapsed (all images get nearly the same one; spread "
                f"{health[name]:.3f} of 1); try a lower learning rate, a longer warm-up or a larger batch",
                SimcoreWarning,
                stacklevel=2,
            )
