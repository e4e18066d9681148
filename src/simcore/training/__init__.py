"""Training: the one loop (`fit`) and the pretraining of backbones (`pretrain`).

Settings can be read without loading torch; the rest is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import Any

from simcore.training.settings import FitSettings, PretrainSettings

_HOMES = {
    "Batches": "trainable",
    "Ema": "ema",
    "FitResult": "loop",
    "Moment": "trainable",
    "Pretrainable": "trainable",
    "StepOutput": "trainable",
    "ViewBatch": "trainable",
    "Trainable": "trainable",
    "fit": "loop",
    "make_fabric": "devices",
    "pretrain": "pretraining",
}

__all__ = ["FitSettings", "PretrainSettings", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'simcore.training' has no attribute '{name}'")
    return getattr(importlib.import_module(f"simcore.training.{_HOMES[name]}"), name)
