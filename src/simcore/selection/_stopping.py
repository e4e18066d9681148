"""Where to stop without labels: the precision of a ranking, estimated from how target rows rank when held out."""

from __future__ import annotations

import numpy as np

from simcore.selection._features import Float64


def precision_curve(
    pool_scores: Float64, held_out_scores: Float64, target_share: float | None = None
) -> tuple[Float64, float]:
    """Estimate, for each n, the share of the first n picks that are like the target.

    If target-like pool rows score as held-out target rows do, the first n of N picks, with scores of at least s,
    hold target_share * N * P(held-out score >= s) of them. Where ``target_share`` is not known it is bounded from
    above by the smallest ratio of the two tails (Blanchard, Lee, Scott, "Semi-Supervised Novelty Detection", JMLR
    2010). That bound is met only if somewhere the pool is pure; where it is not, the curve is too high by as much as
    the bound is. On Tiny-ImageNet (benchmarks/selection/study.py) the true precision at the stop was 0.91 to 1.05 times
    the wanted one with the share given for two targets (vehicles, food), 0.64 to 0.89 times for one that the features
    hardly tell apart (pets), and 0.07 to 0.55 times with the bound.

    Args:
        pool_scores: scores of the pool in pick order [N].
        held_out_scores: scores of target rows, each judged by the others [n_x].
        target_share: share of the pool that is like the target, in (0, 1].

    Returns:
        The curve [N], never rising, in [0, 1], and the share used.
    """
    num = np.arange(1, len(pool_scores) + 1)
    lowest = np.minimum.accumulate(pool_scores)
    ordered = np.sort(held_out_scores)
    found = (len(ordered) - np.searchsorted(ordered, lowest, side="left")) / len(ordered)
    share = target_share if target_share is not None else _share_at_most(num / len(num), found, len(ordered))
    rough = np.minimum(1.0, share * found * len(num) / num)
    return np.maximum.accumulate(rough[::-1])[::-1], share


def _share_at_most(pool_tail: Float64, target_tail: Float64, num_held_out: int) -> float:
    """Take the smallest ratio of tails, each moved by its standard error towards a larger ratio."""
    wide = target_tail - np.sqrt(target_tail * (1 - target_tail) / num_held_out)
    usable = target_tail >= min(1.0, 10 / num_held_out)
    ratios = pool_tail[usable] / np.maximum(wide[usable], 1e-12)
    return float(min(1.0, ratios.min())) if usable.any() else 1.0
