"""What every method is: settings, the views it wants, and the model that it trains around a backbone."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Self

from torch import nn

from simcore.errors import UsageError
from simcore.settings import suggest
from simcore.training.trainable import Pretrainable
from simcore.views import TwoView


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A method of self-supervised learning.

    Its defaults are those of the published system (OpenSSL-SimCore, CVPR 2023); ``presets`` holds other sets of
    values by name, ``paper`` being those of the method's own paper. ``recipes`` holds, by the same names, the
    training settings that go with them, for the paper's batch size (see :meth:`recipe`).
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType({})
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType({})
    min_batch: ClassVar[int] = 2
    drop_last: ClassVar[bool] = False

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """Make the method with the settings of a named preset, and ``changes`` on top."""
        if name not in cls.presets:
            raise UsageError(f"{cls.__name__} has no preset '{name}'{suggest(name, cls.presets)}")
        return cls(**{**cls.presets[name], **changes})

    @classmethod
    def recipe(cls, name: str, batch_size: int | None = None) -> dict[str, Any]:
        """Give a preset's training settings; for another ``batch_size`` the learning rate is scaled in proportion."""
        if name not in cls.recipes:
            raise UsageError(f"{cls.__name__} has no recipe '{name}'{suggest(name, cls.recipes)}")
        settings = dict(cls.recipes[name])
        if batch_size is not None:
            settings |= {"batch_size": batch_size, "lr": settings["lr"] * batch_size / settings["batch_size"]}
        return settings

    def views(self, image_size: int) -> Any:
        """Make the maker of its views: two of each image, of ``image_size`` pixels."""
        return TwoView(image_size=image_size)

    def backbone_settings(self, backbone: str) -> Mapping[str, Any]:
        """Say what it needs of timm's ``create_model`` beside the name."""
        return {}

    def rescaled(self, share: float) -> Self:
        """Adapt what is counted in epochs to a run that was shortened to ``share`` of its epochs."""
        return self

    @abstractmethod
    def build(self, backbone: nn.Module) -> Pretrainable:
        """Put ``backbone`` (images [B, 3, S, S] to features [B, num_features]) into the model that is trained."""
