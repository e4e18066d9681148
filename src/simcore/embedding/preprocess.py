"""From a decoded image to what the network sees: short side resized, centre cropped, in one step.

The pixels equal those of torchvision's ``Resize(resize_size)`` then ``CenterCrop(image_size)`` on a PIL image
(with antialiasing), but only the source pixels under the crop are touched, so that a 1x60000 needle costs no
more than any other image.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt
from PIL import Image

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
# Pixels that a filter reaches to either side, of the output when it reduces and of the source when it enlarges.
REACH = {"bilinear": 1, "bicubic": 2}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transform:
    """Resize the short side to ``resize_size``, cut the central ``image_size`` x ``image_size``."""

    image_size: int
    resize_size: int
    interpolation: str = "bilinear"

    def __call__(self, pixels: npt.NDArray[np.uint8], width: int, height: int) -> npt.NDArray[np.uint8]:
        """Give uint8 [S, S, 3] of an image whose true size is ``width`` x ``height``.

        ``pixels`` [h, w, 3] may be a reduced decoding of it; the geometry is that of the true size.
        """
        wide, high = self._resized(width, height)
        columns = self._span(wide, pixels.shape[1])
        lines = self._span(high, pixels.shape[0])
        box = (
            columns.start * pixels.shape[1] / wide,
            lines.start * pixels.shape[0] / high,
            columns.stop * pixels.shape[1] / wide,
            lines.stop * pixels.shape[0] / high,
        )
        image = Image.fromarray(pixels).resize((len(columns), len(lines)), FILTERS[self.interpolation], box)
        left = _crop_start(wide, self.image_size) - columns.start
        top = _crop_start(high, self.image_size) - lines.start
        return np.asarray(image)[top : top + self.image_size, left : left + self.image_size]

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """Size after the resize, as torchvision rounds it."""
        short, long = min(width, height), max(width, height)
        longer = self.resize_size * long // short
        return (self.resize_size, longer) if width <= height else (longer, self.resize_size)

    def _span(self, length: int, source: int) -> range:
        """Output pixels to compute along one axis: the crop, and around it what its border pixels blend in."""
        reach = math.ceil(REACH[self.interpolation] * max(1.0, length / source))
        start = _crop_start(length, self.image_size)
        return range(max(0, start - reach), min(length, start + self.image_size + reach))


def proportional_resize(image_size: int) -> int:
    """Short side before the crop: 256 for 224, and in proportion for other sizes."""
    return max(image_size, round(image_size * 256 / 224))


def _crop_start(length: int, crop: int) -> int:
    return round((length - crop) / 2.0)
