"""Weights that grow over the course of a run, as plain functions of the step."""

from __future__ import annotations

import math


def linear_ramp(step: float, length: float) -> float:
    """Go from 0 at step 0 straight to 1 at ``length`` and stay there; 1 throughout where ``length`` is 0."""
    return 1.0 if length <= 0 else min(1.0, max(0.0, step / length))


def sigmoid_ramp(step: float, length: float) -> float:
    """Go from exp(-5) at step 0 to 1 at ``length`` as exp(-5 (1 - t)²) (Laine and Aila 2017, section 3.1)."""
    return math.exp(-5.0 * (1.0 - linear_ramp(step, length)) ** 2)
