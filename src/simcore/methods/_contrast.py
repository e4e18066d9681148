"""Contrastive losses: an image's two views against all other images of the batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from simcore.training.gather import gather, world


def similarities(projections: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Compare the views at hand with those of all processes.

    Args:
        projections: [2n, dim], the first views of n images, then their second views; any length.
        temperature: divides the cosines.

    Returns:
        ``logits`` [2n, 2N] (cosine over temperature; a view's similarity to itself is -inf), and ``positives`` [2n],
        the column of each view's other half. N is n times the number of processes.
    """
    unit = normalize(projections.float())
    logits = unit @ gather(unit).T / temperature
    num_views, rank = len(unit), world()[0]
    own = torch.arange(num_views, device=unit.device)
    logits[own, own + rank * num_views] = -torch.inf
    return logits, own.roll(num_views // 2) + rank * num_views


def nt_xent(projections: Tensor, temperature: float) -> Tensor:
    """NT-Xent, the mean over all views of ``-log(exp(s_pos/T) / sum of exp(s/T) over the 2N - 1 other views)``.

    Chen et al. 2020 (SimCLR), equation 1. Under several processes the other views are those of all of them, and
    the mean is over the local views.

    Shape:
        projections: [2n, dim], first views then second views.
    """
    with torch.autocast(projections.device.type, enabled=False):
        return cross_entropy(*similarities(projections, temperature))
