"""The photometric half of a recipe: which colour operations befall a view, how often and how strongly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from simcore.errors import UsageError
from simcore.settings import setting
from simcore.views import _colour

NUM_OPERATIONS = 4
NEVER = NUM_OPERATIONS  # the hue's turn in an image that is not jittered


@dataclass(frozen=True, kw_only=True)
class Photometric:
    """Colour jitter, then grayscale, blur and solarisation, each with its own probability.

    The defaults are the recipe of OpenSSL-SimCore (CVPR 2023): SimCLR's jitter and grayscale, no blur. With
    ``blur_probability=0.5`` it is that of SimCLR (Chen et al. 2020, appendix A).
    """

    brightness: float = setting(0.8, "factors are drawn from 1 - b to 1 + b, and never below 0")
    contrast: float = setting(0.8, "the same for contrast")
    saturation: float = setting(0.8, "the same for saturation")
    hue: float = setting(0.2, "hues turn by up to this part of the colour circle, at most 0.5")
    jitter_probability: float = setting(0.8, "how often the four are applied, in random order")
    grayscale_probability: float = setting(0.2, "how often a view loses its colours")
    blur_probability: float = setting(0.0, "how often a view is blurred, by a Gaussian a tenth of the view wide")
    min_sigma: float = setting(0.1, "least blur: the Gaussian's standard deviation, in pixels")
    max_sigma: float = setting(2.0, "most blur")
    solarize_probability: float = setting(0.0, "how often bright values are inverted")
    solarize_threshold: float = setting(0.5, "the value, in [0, 1], from which on they are inverted")

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value < 0 or (field.name.endswith("_probability") and value > 1):
                raise UsageError(f"{field.name} is {value}, outside its range")
        if self.hue > 0.5:
            raise UsageError(f"hue is {self.hue}, more than 0.5")
        if not 0 < self.min_sigma <= self.max_sigma:
            raise UsageError(f"min_sigma {self.min_sigma} and max_sigma {self.max_sigma} are not 0 < min <= max")

    def draw(self, num: int, generator: torch.Generator) -> Colours:
        """Draw what befalls each of ``num`` views.

        Draws, in this order and whatever the settings: jitter or not, the order of the four operations, their four
        factors, grayscale or not, blur or not, sigma, solarise or not; each for all views at once.
        """

        def uniform(*columns: int) -> Tensor:
            return torch.rand(num, *columns, generator=generator)

        jittered = uniform() < self.jitter_probability
        order = uniform(NUM_OPERATIONS).argsort(dim=1, stable=True)
        low, high = self._factor_bounds()
        return Colours(
            jittered=jittered,
            order=order,
            factors=low + (high - low) * uniform(NUM_OPERATIONS),
            grayscale=uniform() < self.grayscale_probability,
            blurred=uniform() < self.blur_probability,
            sigma=self.min_sigma + (self.max_sigma - self.min_sigma) * uniform(),
            solarized=uniform() < self.solarize_probability,
            solarize_threshold=self.solarize_threshold,
        )

    def _factor_bounds(self) -> tuple[Tensor, Tensor]:
        strengths = torch.tensor([self.brightness, self.contrast, self.saturation])
        hue = torch.tensor([self.hue])
        return torch.cat([(1 - strengths).clamp_(min=0), -hue]), torch.cat([1 + strengths, hue])


@dataclass(frozen=True)
class Colours:
    """What befalls the colours of each view of a batch; every tensor begins with ``[B]`` and is on the CPU.

    ``order``, int64 ``[B, 4]``, names the operation of each turn; ``factors``, float32 ``[B, 4]``, belong to the
    operations by number (``_colour.BRIGHTNESS`` …).
    """

    jittered: Tensor
    order: Tensor
    factors: Tensor
    grayscale: Tensor
    blurred: Tensor
    sigma: Tensor
    solarized: Tensor
    solarize_threshold: float

    @property
    def hue_turn(self) -> Tensor:
        """At which turn, 0 to 3, each view's hue is shifted: int64 ``[B]``, ``NEVER`` in a view not jittered."""
        turn = (self.order == _colour.HUE).int().argmax(dim=1)
        return torch.where(self.jittered, turn, NEVER)

    def __getitem__(self, rows: Tensor | slice) -> Colours:
        names = [field.name for field in fields(self) if field.name != "solarize_threshold"]
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    @classmethod
    def joined(cls, parts: Sequence[Colours]) -> Colours:
        """Put one after the other; their thresholds must be the same."""
        names = [field.name for field in fields(cls) if field.name != "solarize_threshold"]
        joined: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
        return replace(parts[0], **joined)
