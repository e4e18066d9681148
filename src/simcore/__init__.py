"""simcore: coreset sampling from an open-set for fine-grained self-supervised learning.

The names below are the public Python interface; each is imported when it is first used, so that
``import simcore`` stays quick and loads no torch.
"""

from __future__ import annotations

import importlib
from typing import Any

from simcore._version import __version__

_HOMES = {
    "open_images": "simcore.images",
    "Embeddings": "simcore.artifacts",
    "Selection": "simcore.artifacts",
    "Checkpoint": "simcore.artifacts",
    "Report": "simcore.artifacts",
    "SimcoreError": "simcore.errors",
    "SimcoreWarning": "simcore.errors",
    "UsageError": "simcore.errors",
    "Embedder": "simcore.embedding",
    "load_encoder": "simcore.embedding",
    "SimCore": "simcore.selection.simcore",
    "Random": "simcore.selection.random",
    "SimCLR": "simcore.methods.simclr",
    "pretrain": "simcore.pipeline",
    "evaluate": "simcore.pipeline",
    "LinearProbe": "simcore.tasks.linear",
    "KNN": "simcore.tasks.knn",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'simcore' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
