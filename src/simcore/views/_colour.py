"""Colour operations on a batch of images, each image with its own factor.

Images are float32 ``[B, 3, H, W]`` in [0, 1], factors float32 ``[B]``. The formulas, limits and clamping are those
of ``torchvision.transforms.v2.functional`` on float images. A name that ends with an underscore works in place.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


def gray(images: Tensor) -> Tensor:
    """Give the luma (ITU-R BT.601) of each pixel: ``[B, 1, H, W]``."""
    red, green, blue = images[:, 0:1], images[:, 1:2], images[:, 2:3]
    return (red * 0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114)


def blend_shares(operation: Tensor, factor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Say how much of itself, of its luma and of its mean luma an image becomes.

    Brightness, contrast and saturation all mix an image with another, ``factor · image + (1 - factor) · other``: with
    black, with the mean of its luma, with its luma. ``operation`` (int64) names one of them for each factor.
    """
    rest = 1 - factor
    return factor, rest * (operation == SATURATION), rest * (operation == CONTRAST)


def blend_(images: Tensor, own: Tensor, luma: Tensor, mean: Tensor) -> Tensor:
    """Adjust brightness, contrast or saturation, whichever the shares ``[B]`` of :func:`blend_shares` stand for.

    One pass does for a batch in which each image is at another operation.
    """
    other = gray(images)
    average = other.mean(dim=3, keepdim=True).mean(dim=2, keepdim=True)  # by rows: the same for any number of threads
    other.mul_(luma[:, None, None, None]).addcmul_(average, mean[:, None, None, None])
    return torch.addcmul(other, images, own[:, None, None, None], out=images).clamp_(0, 1)


def shift_hue_(images: Tensor, shift: Tensor) -> Tensor:
    """Turn each image's hues by ``shift`` turns of the colour circle, keeping HSV saturation and value."""
    red, green, blue = images.unbind(dim=1)
    high = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    chroma = high - low
    hue = _hue(red, green, blue, low, chroma)
    hue.add_(6 * shift[:, None, None])
    hue.sub_((hue / 6).round_(), alpha=6)  # back to [-3, 3]

    # A channel is high within one sixth of its own hue, low from two sixths on, and goes linearly between.
    torch.addcmul(high, chroma, hue.abs().sub_(1).clamp_(0, 1), value=-1, out=red)
    torch.addcmul(low, chroma, (hue + 1).abs_().sub_(1).clamp_(0, 1), out=green)
    torch.addcmul(low, chroma, hue.sub_(1).abs_().sub_(1).clamp_(0, 1), out=blue)
    return images


def _hue(red: Tensor, green: Tensor, blue: Tensor, low: Tensor, chroma: Tensor) -> Tensor:
    """Give the hue in sixths of the circle, from -3 to 3: red at 0, green at 2, blue at -2.

    With the channels scaled to r, g, b from 0 (the least) to 1 (the greatest), the way from red is 1 - r + g + b in
    each of the six sectors, towards green where g > b. That is the usual hexagonal hue without its case distinctions,
    which cost most of the time.
    """
    way = (green + blue).sub_(red).sub_(low).div_(chroma.clamp(min=1e-9)).add_(1)
    return way.copysign_(green - blue)


def blur(images: Tensor, sigma: Tensor, kernel_size: int) -> Tensor:
    """Blur with a Gaussian of ``sigma`` pixels, cut to ``kernel_size`` (odd), the borders reflected."""
    batch, channels = images.shape[:2]
    reach = kernel_size // 2
    distance = torch.arange(-reach, reach + 1, device=images.device)
    kernel = torch.softmax(-((distance / sigma[:, None]) ** 2) / 2, dim=1)  # [B, kernel_size]
    kernel = kernel.repeat_interleave(channels, 0)[:, None]
    padded = F.pad(images, (reach, reach, reach, reach), mode="reflect").flatten(0, 1)[None]
    rows = F.conv2d(padded, kernel[:, :, None, :], groups=batch * channels)
    return F.conv2d(rows, kernel[:, :, :, None], groups=batch * channels).view_as(images)


def solarize(images: Tensor, threshold: float | Tensor) -> Tensor:
    """Invert every value from ``threshold`` on."""
    return torch.where(images >= threshold, 1 - images, images)
