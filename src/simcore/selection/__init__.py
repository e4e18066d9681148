"""Selection: features to a coreset. Every module without a leading underscore is one selector.

A selector sees arrays, never pixels. ``SimCore().select(target, pool, budget=1000)`` answers a
:class:`simcore.artifacts.Selection`; :func:`peel` is the published rule on a similarity matrix.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Selector": "simcore.selection._base",
    "parse_budget": "simcore.selection._base",
    "select_coreset": "simcore.selection._coreset",
    "Centroids": "simcore.selection._kmeans",
    "kmeans": "simcore.selection._kmeans",
    "peel": "simcore.selection._peel",
    "DensityRatio": "simcore.selection.density_ratio",
    "FacilityLocation": "simcore.selection.facility_location",
    "KCenter": "simcore.selection.k_center",
    "LinearClassifier": "simcore.selection.linear_classifier",
    "Oracle": "simcore.selection.oracle",
    "Random": "simcore.selection.random",
    "SimCore": "simcore.selection.simcore",
    "Top": "simcore.selection.top",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'simcore.selection' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
