"""Evaluations: one file a task, found by its name. What serves several tasks stands in the private modules.

The names below are imported when they are first used, so that listing the tasks loads no torch.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Answers": "_metrics",
    "Comparison": "_compare",
    "Head": "_head",
    "Task": "_task",
    "accuracies": "_metrics",
    "by_attribute": "_attributes",
    "compare": "_compare",
    "held_out_split": "_labels",
    "label_budget": "_labels",
    "load_predictor": "_predict",
    "match_classes": "_classes",
    "plain_label_budget": "_labels",
    "predict": "_predict",
    "predict_into": "_predict",
    "run_attributes": "_attributes",
    "save_predictions": "_predict",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'simcore.tasks' has no attribute '{name}'")
    return getattr(importlib.import_module(f"simcore.tasks.{_HOMES[name]}"), name)
