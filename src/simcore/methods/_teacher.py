"""How fast a teacher follows its student, over the run."""

from __future__ import annotations

from torch import nn

from simcore.training.ema import Ema
from simcore.training.schedule import cosine_between
from simcore.training.trainable import Moment

EMA_SCHEDULES = ("epoch", "step", "constant")


def ema_decay(start: float, schedule: str, moment: Moment) -> float:
    """Give the share of itself that a teacher keeps: from ``start`` to 1 along a cosine.

    ``epoch`` changes it after each epoch, as published; ``step`` at every step, as BYOL's paper; or not at all.
    """
    if schedule == "constant":
        return start
    fraction = moment.epoch / moment.num_epochs if schedule == "epoch" else moment.fraction
    return cosine_between(start, 1.0, fraction)


def teacher_of(student: nn.Module) -> Ema:
    """Make a teacher that starts as the student, but drops no paths (stochastic depth is for the student)."""
    teacher = Ema(student)
    for module in teacher.modules():
        if hasattr(module, "drop_prob"):
            module.drop_prob = 0.0  # type: ignore[assignment]  # nn.Module types attributes as modules
    return teacher
