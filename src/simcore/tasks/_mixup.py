"""Mixup: training on convex combinations of pairs of examples (Zhang et al. 2018)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def mixup(
    inputs: Tensor, targets: Tensor, alpha: float, generator: torch.Generator, *, at_least_half: bool
) -> tuple[Tensor, Tensor]:
    """Mix each example with another one of the batch: ``share · own + (1 - share) · other``.

    The partners are a random permutation of the batch; each example's share is drawn by itself from
    Beta(alpha, alpha). ``generator`` is on the CPU, so the draws are the same on every device.

    Args:
        inputs: floating point [n, ...].
        targets: class probabilities, floating point [n, num_classes].
        alpha: above 0; towards 0 examples stay nearly as they are.
        at_least_half: take the larger of share and 1 - share, so that an example stays nearest to itself
            (Berthelot et al. 2019, equation 9).

    Returns:
        Mixed inputs and targets, row i made mostly of example i where ``at_least_half``.
    """
    partners, shares = draw_mixing(len(inputs), alpha, generator, at_least_half=at_least_half)
    return _blend(inputs, partners, shares), _blend(targets, partners, shares)


def draw_mixing(num: int, alpha: float, generator: torch.Generator, *, at_least_half: bool) -> tuple[Tensor, Tensor]:
    """Draw partners, int64 [num], and the share that each example keeps, float32 [num]; both on the CPU."""
    partners = torch.randperm(num, generator=generator)
    # torch's Beta takes no generator: numpy draws, seeded from it.
    seed = int(torch.randint(2**62, (), generator=generator))
    drawn = torch.from_numpy(np.random.default_rng(seed).beta(alpha, alpha, num))
    shares = torch.maximum(drawn, 1.0 - drawn) if at_least_half else drawn
    return partners, shares.float()


def _blend(values: Tensor, partners: Tensor, shares: Tensor) -> Tensor:
    weight = shares.to(values.device, values.dtype).view(-1, *[1] * (values.ndim - 1))
    return values[partners.to(values.device)].lerp(values, weight)
