"""Colours for class numbers, told apart by eye: the bits of a number spread over red, green and blue (as VOC's)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def colour_table() -> npt.NDArray[np.uint8]:
    """Give a colour for each of 256 numbers, uint8 [256, 3]; 0 is black."""
    colours = np.zeros((256, 3), np.uint8)
    numbers = np.arange(256)
    for step in range(8):
        for channel in range(3):
            colours[:, channel] |= (((numbers >> (3 * step + channel)) & 1) << (7 - step)).astype(np.uint8)
    return colours
