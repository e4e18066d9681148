"""Fit float32 features into the number format of a store without a silent infinity or a silent zero.

float16 ends at 65,504, and below 6e-5 it loses digits. A row beyond either end is multiplied by a power of two
that brings its largest value to 1…2: its direction, which selection by cosine and kNN use, is as exact as that of
any other row, its length is not kept. Such rows are counted and warned of; a store of float32 has none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FORMATS: dict[str, np.dtype[Any]] = {"float16": np.dtype("<f2"), "float32": np.dtype("<f4")}
SMALLEST_NORMAL = float(np.finfo(np.float16).smallest_normal)
LARGEST = float(np.finfo(np.float16).max)


def fit_format(features: npt.NDArray[np.float32], dtype: str) -> tuple[npt.NDArray[Any], int]:
    """Convert finite features [n, d]; give them and the number of rows that had to be rescaled."""
    if dtype != "float16":
        return features.astype(FORMATS[dtype]), 0
    peak = np.abs(features).max(axis=1, initial=0.0)
    beyond = (peak > LARGEST) | ((peak < SMALLEST_NORMAL) & (peak > 0.0))
    if beyond.any():
        _, exponent = np.frexp(peak[beyond])
        features = features.copy()
        features[beyond] = np.ldexp(features[beyond], 1 - exponent[:, None])
    return features.astype(FORMATS[dtype]), int(beyond.sum())
