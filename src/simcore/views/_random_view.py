"""One random view of each image; the view makers are made of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from simcore.errors import UsageError
from simcore.views._canvas import ImageBatch
from simcore.views._photometric import Colours, Photometric
from simcore.views._placement import Placement, random_resized_crop
from simcore.views._render import render
from simcore.views._resample import BILINEAR, Filter


@dataclass(frozen=True, kw_only=True)
class RandomView:
    """Random resized crop and flip, then the colour operations if there are any, then normalisation."""

    size: int
    scale: tuple[float, float]
    flip_probability: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    photometric: Photometric | None = None
    filter: Filter = BILINEAR

    def __post_init__(self) -> None:
        low, high = self.scale
        if self.size < 1:
            raise UsageError(f"a view of {self.size} pixels cannot be made; the least is 1")
        if not 0 < low <= high <= 1:
            raise UsageError(f"the crops' scale, {low} to {high}, is not 0 < min_scale <= max_scale <= 1")
        if not 0 <= self.flip_probability <= 1:
            raise UsageError(f"flip_probability is {self.flip_probability}, outside 0 to 1")
        if min(self.std) <= 0:
            raise UsageError(f"std is {self.std}; every channel's must be above 0")

    def draw(self, batch: ImageBatch, generator: torch.Generator) -> Drawn:
        """Draw the crops and flips, then the colours."""
        placement = random_resized_crop(
            batch.sizes,
            self.size,
            scale=self.scale,
            flip_probability=self.flip_probability,
            generator=generator,
        )
        colours = None if self.photometric is None else self.photometric.draw(len(batch), generator)
        return Drawn(placement, colours)

    def render(self, batch: ImageBatch, drawn: Drawn) -> Tensor:
        """Make the views that were drawn: float32 ``[N, 3, size, size]``."""
        return render(
            batch,
            drawn.placement,
            self.size,
            mean=self.mean,
            std=self.std,
            filter=self.filter,
            colours=drawn.colours,
        )

    @property
    def pass_key(self) -> tuple[Any, ...]:
        """What recipes must have in common for their views to be made in one pass."""
        threshold = None if self.photometric is None else self.photometric.solarize_threshold
        return self.size, self.mean, self.std, self.filter, threshold


class Drawn(NamedTuple):
    """What befalls the images of a batch: where each view lies, and its colours if the recipe changes them."""

    placement: Placement
    colours: Colours | None

    @classmethod
    def joined(cls, parts: Sequence[Drawn]) -> Drawn:
        """Put the views of several recipes one after the other."""
        colours = [part.colours for part in parts if part.colours is not None]
        return cls(Placement.joined([part.placement for part in parts]), Colours.joined(colours) if colours else None)


def random_views(recipes: Sequence[RandomView], batch: ImageBatch, generator: torch.Generator) -> list[Tensor]:
    """Make a view by each recipe: float32 ``[B, 3, size, size]``.

    The draws are those of the first recipe, then of the second, and so on. Where long passes pay, the views of like
    recipes are made in one.
    """
    drawn = [recipe.draw(batch, generator) for recipe in recipes]
    if batch.short_passes:
        return [recipe.render(batch, part) for recipe, part in zip(recipes, drawn, strict=True)]
    alike: dict[Any, list[int]] = {}
    for number, recipe in enumerate(recipes):
        alike.setdefault(recipe.pass_key, []).append(number)
    views: dict[int, Tensor] = {}
    for numbers in alike.values():
        made = recipes[numbers[0]].render(batch, Drawn.joined([drawn[number] for number in numbers]))
        views |= zip(numbers, torch.tensor_split(made, len(numbers)), strict=True)
    return [views[number] for number in range(len(recipes))]
