"""From any Pillow mode to upright 8-bit RGB, by fixed rules.

| stored as | becomes |
|---|---|
| 16-bit grey, 32-bit integers | value / 257; integers beyond 65535 are white, below 0 black |
| 32-bit float | the smallest conventional full scale (1, 255 or 65535) that holds every value; NaN is black |
| alpha, a transparent colour | composed on white |
| CMYK, YCbCr, HSV | Pillow's plain formulas; colour profiles are not applied |
| CIE Lab | sRGB |
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

ORIENTATION_TAG = 0x0112
PHOTOMETRIC_TAG = 0x0106
ORIENTATION_HOLDERS = frozenset(("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"))
# Larger pictures are converted in strips, so that only the picture and the result are whole in memory.
STRIP_PIXELS = 1 << 22
FLOAT_FULL_SCALES = (1.0, 255.0, 65535.0)

Pixels = npt.NDArray[np.uint8]


def uint8_rgb(image: Image.Image) -> Pixels:
    """Give the pixels of a loaded image as uint8 [H, W, 3], a fresh contiguous array."""
    if image.mode == "F":
        return _grey(_float_to_levels(np.asarray(image)))  # its scale depends on all of it
    if image.mode.startswith("I") and white_is_zero(image):
        return 255 - _in_strips(image)
    return _in_strips(image)


def white_is_zero(image: Image.Image) -> bool:
    """Tell a TIFF that stores white as 0; Pillow turns it round for 8 bits but not for more."""
    return getattr(image, "tag_v2", {}).get(PHOTOMETRIC_TAG) == 0


def _in_strips(image: Image.Image) -> Pixels:
    if image.width * image.height <= STRIP_PIXELS:
        return _convert(image)
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        pixels[top:bottom] = _convert(image.crop((0, top, image.width, bottom)))
    return pixels


def _convert(image: Image.Image) -> Pixels:
    if image.mode.startswith("I"):
        return _grey(_wide_to_levels(np.asarray(image), image.info.get("transparency")))
    if image.mode == "LAB":
        return np.array(_lab_to_rgb(image))
    if image.has_transparency_data:
        return np.array(_on_white(image.convert("RGBA")))
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _grey(levels: Pixels) -> Pixels:
    return np.repeat(levels[:, :, None], 3, axis=2)


def _wide_to_levels(values: npt.NDArray[Any], transparent: Any) -> Pixels:
    """Scale 16-bit values (or integers that hold them) by 1/257; a transparent value shows the white behind it."""
    levels: Pixels = ((np.clip(values, 0, 65535).astype(np.uint32) + 128) // 257).astype(np.uint8)
    if isinstance(transparent, int):
        levels[values == transparent] = 255
    return levels


def _float_to_levels(values: npt.NDArray[Any]) -> Pixels:
    finite = np.nan_to_num(values.astype(np.float32), nan=0.0)
    top = float(finite.max())
    scale = next((full for full in FLOAT_FULL_SCALES if top <= full), FLOAT_FULL_SCALES[-1])
    levels: Pixels = np.rint(np.clip(finite, 0.0, scale) * (255.0 / scale)).astype(np.uint8)
    return levels


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    assert converted is not None  # only an in-place conversion answers nothing
    return converted


def _on_white(image: Image.Image) -> Image.Image:
    """Compose RGBA on white: what most viewers show, and what hides colours stored under full transparency."""
    alpha = image.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return image.convert("RGB")
    page = Image.new("RGB", image.size, (255, 255, 255))
    page.paste(image.convert("RGB"), mask=alpha)
    return page


def may_be_oriented(image: Image.Image) -> bool:
    """Tell whether there is any metadata that an orientation could stand in; most pictures have none."""
    return not ORIENTATION_HOLDERS.isdisjoint(image.info)


def orientation_of(image: Image.Image) -> int:
    """Read the EXIF orientation, 1 to 8; absent, invalid or unreadable counts as upright."""
    try:
        tag = image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # a damaged EXIF block trips the parser in many ways and matters to nobody else
        return 1
    return tag if isinstance(tag, int) and 1 <= tag <= 8 else 1


def turns_sideways(orientation: int) -> bool:
    """Tell whether width and height change places."""
    return orientation >= 5


def turn_upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo an EXIF orientation: transpose for 5 to 8, then mirror rows and columns as the tag asks."""
    if orientation == 1:
        return pixels
    if turns_sideways(orientation):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
