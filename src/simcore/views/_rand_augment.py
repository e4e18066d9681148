"""RandAugment on batches: a few random operations an image, each of a random strength, then a blot.

Operations and ranges are those of FixMatch (Sohn et al. 2020, table 12). Images are float32 ``[B, 3, S, S]`` in
[0, 1]; formulas are torchvision's on float images (equalisation goes through 256 levels, as there). What a rotation
or shift uncovers, and the blot, are grey.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as vision

from simcore.errors import UsageError
from simcore.settings import setting
from simcore.views import _colour

OPERATIONS = (
    "identity",
    "auto_contrast",
    "equalize",
    "brightness",
    "contrast",
    "saturation",
    "sharpness",
    "posterize",
    "solarize",
    "rotate",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)
GEOMETRIC = OPERATIONS[9:]
BLENDS = {"brightness": _colour.BRIGHTNESS, "contrast": _colour.CONTRAST, "saturation": _colour.SATURATION}
FULL_MAGNITUDE = 10
MAX_DEGREES, MAX_SHEAR, MAX_SHIFT = 30.0, 0.3, 0.3
GREY = 0.5


@dataclass(frozen=True, kw_only=True)
class RandAugment:
    """``num_operations`` operations an image, drawn evenly from ``OPERATIONS``, then cutout.

    The strength of each is drawn evenly from none to ``magnitude`` tenths of its range, as FixMatch has it, rather
    than fixed at ``magnitude`` (Cubuk et al. 2020). Published for semi-supervised learning: 2 and 10.
    """

    num_operations: int = setting(2, "operations that befall each image, one after the other")
    magnitude: int = setting(10, "how strong they are at most, from 0 (nearly none) to 10")
    cutout: float = setting(0.5, "side of the square that is then blotted out, as a share of the view's; 0: none")

    def __post_init__(self) -> None:
        if self.num_operations < 0:
            raise UsageError(f"num_operations is {self.num_operations}; it must be 0 or more")
        if not 0 <= self.magnitude <= FULL_MAGNITUDE:
            raise UsageError(f"magnitude is {self.magnitude}, outside 0 to {FULL_MAGNITUDE}")
        if not 0 <= self.cutout <= 1:
            raise UsageError(f"cutout is {self.cutout}, outside 0 to 1")

    def draw(self, num: int, generator: torch.Generator) -> Strokes:
        """Draw what befalls each of ``num`` images: operations, strengths, directions, and where the blot lies."""
        shape = (num, self.num_operations)
        return Strokes(
            operation=torch.randint(len(OPERATIONS), shape, generator=generator),
            level=torch.rand(shape, generator=generator) * (self.magnitude / FULL_MAGNITUDE),
            sign=torch.randint(2, shape, generator=generator) * 2.0 - 1.0,
            blot=torch.rand(num, 2, generator=generator),
        )

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Draw, and change images ``[B, 3, S, S]`` accordingly; the given ones stay as they are."""
        strokes = self.draw(len(images), generator)
        with torch.autocast(images.device.type, enabled=False):
            for turn in range(self.num_operations):
                images = apply(images, *(part[:, turn] for part in (strokes.operation, strokes.level, strokes.sign)))
            return blotted(images, strokes.blot, self.cutout)


@dataclass(frozen=True)
class Strokes:
    """What befalls each image of a batch; all tensors are on the CPU.

    Shape:
        operation: int64 ``[B, num_operations]``, numbers of ``OPERATIONS``.
        level: float32 ``[B, num_operations]`` in [0, 1].
        sign: float32 ``[B, num_operations]``, -1 or 1: the direction of a geometric operation.
        blot: float32 ``[B, 2]``, (vertical, horizontal) place of the blot's middle as a share of the side.
    """

    operation: Tensor
    level: Tensor
    sign: Tensor
    blot: Tensor


@torch.no_grad()
def apply(images: Tensor, operation: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Do one operation on each image ``[B, 3, S, S]``; ``operation``, ``level`` and ``sign`` are ``[B]``, on the CPU.

    Images at the same operation, at any of the blends, or at any geometric operation are done together.
    """
    changed = images.clone()
    names = [OPERATIONS[number] for number in operation.tolist()]
    for group, change in _GROUPS:
        chosen = torch.tensor([row for row, name in enumerate(names) if name in group], dtype=torch.int64)
        if len(chosen):
            rows = chosen.to(images.device, non_blocking=True)
            some = change(images.index_select(0, rows), operation[chosen], level[chosen], sign[chosen])
            changed.index_copy_(0, rows, some)
    return changed


@torch.no_grad()
def blotted(images: Tensor, middle: Tensor, share: float) -> Tensor:
    """Blot out a square of ``share`` of the side around each image's ``middle`` ``[B, 2]``, cut at the border."""
    size = images.shape[-1]
    place = torch.arange(size, device=images.device) + 0.5
    middles = (middle * size).to(images.device, non_blocking=True)
    inside = (place - middles[..., None]).abs() < share * size / 2  # [B, 2, S]
    return images.masked_fill((inside[:, 0, :, None] & inside[:, 1, None, :])[:, None], GREY)


def _blend(images: Tensor, operation: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    kinds = torch.tensor([BLENDS[OPERATIONS[number]] for number in operation.tolist()])
    shares = _colour.blend_shares(kinds, _factor(level))
    return _colour.blend_(images, *(share.to(images.device) for share in shares))


def _factor(level: Tensor) -> Tensor:
    """Give how much of itself an image keeps: 0.95 to 0.05."""
    return 0.95 - 0.9 * level


def _sharpness(images: Tensor, operation: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Mix with the image smoothed by (1 1 1, 1 5 1, 1 1 1) / 13, which leaves its border as it is."""
    if images.shape[-1] < 3:
        return images
    kernel = torch.ones(3, 1, 3, 3, device=images.device)
    kernel[:, :, 1, 1] = 5.0
    smooth = images.clone()
    smooth[..., 1:-1, 1:-1] = F.conv2d(images, kernel / 13.0, groups=3)
    return smooth.lerp(images, _column(_factor(level), images)).clamp_(0, 1)


def _posterize(images: Tensor, operation: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Keep 8 to 4 bits of each value."""
    levels = _column(2.0 ** (8 - (4 * level).round()), images)
    return torch.minimum((images * levels).floor_(), levels - 1).div_(levels)


def _solarize(images: Tensor, operation: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return _colour.solarize(images, _column(1.0 - level, images))


def _geometric(images: Tensor, operation: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    names = [OPERATIONS[number] for number in operation.tolist()]
    strengths = (level * sign).tolist()
    matrices = torch.tensor([_matrix(name, strength) for name, strength in zip(names, strengths, strict=True)])
    grid = F.affine_grid(matrices.to(images.device), list(images.shape), align_corners=False)
    return F.grid_sample(images - GREY, grid, align_corners=False).add_(GREY)


def _matrix(name: str, strength: float) -> list[list[float]]:
    """Say where each pixel of the result comes from, in coordinates that run from -1 to 1 over the image."""
    angle = math.radians(MAX_DEGREES * strength)
    shear, shift = MAX_SHEAR * strength, 2 * MAX_SHIFT * strength
    return {
        "rotate": [[math.cos(angle), -math.sin(angle), 0.0], [math.sin(angle), math.cos(angle), 0.0]],
        "shear_x": [[1.0, shear, 0.0], [0.0, 1.0, 0.0]],
        "shear_y": [[1.0, 0.0, 0.0], [shear, 1.0, 0.0]],
        "translate_x": [[1.0, 0.0, shift], [0.0, 1.0, 0.0]],
        "translate_y": [[1.0, 0.0, 0.0], [0.0, 1.0, shift]],
    }[name]


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.device, like.dtype)[:, None, None, None]


def _auto_contrast(images: Tensor, operation: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    stretched: Tensor = vision.autocontrast(images)
    return stretched


def _equalize(images: Tensor, operation: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    flat: Tensor = vision.equalize(images)
    return flat


_Change = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
_GROUPS: tuple[tuple[tuple[str, ...], _Change], ...] = (
    (("auto_contrast",), _auto_contrast),
    (("equalize",), _equalize),
    (tuple(BLENDS), _blend),
    (("sharpness",), _sharpness),
    (("posterize",), _posterize),
    (("solarize",), _solarize),
    (GEOMETRIC, _geometric),
)
