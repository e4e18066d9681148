"""Learning rate and weight decay as plain functions of the moment: nothing is counted along, so nothing is lost.

All are computed from the moment's own totals, that is after any rescaling of epochs.
"""

from __future__ import annotations

import math

from simcore.training.settings import FitSettings
from simcore.training.trainable import Moment

POLY_POWER = 0.9  # of the "poly" schedule, as in Chen et al. 2018 (DeepLab)


def cosine_between(start: float, end: float, fraction: float) -> float:
    """Go from ``start`` (fraction 0) to ``end`` (fraction 1) along half a cosine."""
    return end + (start - end) * (1.0 + math.cos(math.pi * fraction)) / 2.0


def learning_rate(settings: FitSettings, moment: Moment) -> float:
    """Give the learning rate of the step at ``moment``.

    Published form: warm-up runs linearly from 0.1 lr to the value that the schedule has when it ends, per step;
    after it, ``cosine`` and ``step`` change once an epoch, with epochs counted from 1.
    """
    warmup_steps = min(settings.warmup_epochs * moment.steps_per_epoch, moment.num_steps)
    if moment.step < warmup_steps:
        low, high = 0.1 * settings.lr, _warm_target(settings, moment, warmup_steps)
        return low + (high - low) * moment.step / warmup_steps
    return _scheduled(settings, moment)


def _warm_target(settings: FitSettings, moment: Moment, warmup_steps: int) -> float:
    if settings.schedule == "poly":
        return _poly(settings, warmup_steps / moment.num_steps)
    if not settings.schedule.startswith("cosine"):
        return settings.lr
    return _cosine(settings, warmup_steps / moment.num_steps)


def _scheduled(settings: FitSettings, moment: Moment) -> float:
    match settings.schedule:
        case "constant":
            return settings.lr
        case "step":
            num_decays = sum(moment.epoch >= epoch for epoch in settings.lr_decay_epochs)
            return settings.lr * settings.lr_decay_rate**num_decays
        case "poly":
            return _poly(settings, moment.fraction)
        case "cosine" if settings.max_steps is None:
            return _cosine(settings, (moment.epoch + 1) / moment.num_epochs)
        case _:  # Per step: also where --max-steps cuts the last epoch short or spans less than one.
            return _cosine(settings, moment.fraction)


def _cosine(settings: FitSettings, fraction: float) -> float:
    return cosine_between(settings.lr, settings.lr * settings.lr_decay_rate**3, fraction)


def _poly(settings: FitSettings, fraction: float) -> float:
    return float(settings.lr * (1.0 - fraction) ** POLY_POWER)


def weight_decay(settings: FitSettings, moment: Moment, start: float) -> float:
    """Give the weight decay of a group that began with ``start``; groups without any keep none."""
    if settings.weight_decay_end is None or start == 0.0:
        return start
    return cosine_between(start, settings.weight_decay_end, moment.fraction)


def rescaled_epochs(epochs: int, num_added: int, reference_images: int) -> int:
    """Shorten a run as published: no more images than 100 passes over ``reference_images``, at least 1 epoch.

    The published rule counts the coreset alone (``num_added`` images) and has ImageNet's 1,281,167 built in.
    """
    if num_added <= 0:
        return epochs
    return max(1, min(epochs, 100 * reference_images // num_added))
