"""Make a backbone by its timm name, with fresh weights that depend on the seed alone."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import timm
import torch
from torch import nn

from simcore.errors import SimcoreError, UsageError

DEFAULT_IMAGE_SIZE = 224
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputConfig:
    """What a network expects of its images: side in pixels, mean and std of values in 0…1, and the filter."""

    image_size: int = DEFAULT_IMAGE_SIZE
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: str = "bilinear"

    def updated(self, config: Mapping[str, Any]) -> InputConfig:
        """Take over what a RUN's config or a file's metadata says of it."""
        kinds: dict[str, Callable[[Any], Any]] = {"image_size": int, "mean": tuple, "std": tuple, "interpolation": str}
        return dataclasses.replace(
            self, **{name: kind(config[name]) for name, kind in kinds.items() if config.get(name)}
        )


def create_backbone(
    name: str, *, seed: int, image_size: int | None = None, pretrained: bool = False, **timm_kwargs: Any
) -> nn.Module:
    """Build a timm model without its classifier; ``model(x)`` is [B, model.num_features].

    Args:
        name: any timm model, with its tag if it has one, or one that simcore registers (``resnet10``,
            ``dino_vit_t16`` …).
        seed: decides the weights; torch's own generators are left as they were.
        image_size: side of the images in pixels; only networks with position embeddings of a fixed size heed it.
        pretrained: fetch timm's weights (the only way in which anything is downloaded).
        timm_kwargs: handed to ``timm.create_model``.

    Raises ``UsageError`` for an unknown name, ``SimcoreError`` where the weights cannot be had.
    """
    check_name(name)
    settings: dict[str, Any] = {"num_classes": 0, **timm_kwargs}
    if image_size is not None and _has_fixed_size(name):
        settings.setdefault("img_size", image_size)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = _fetch(name, settings) if pretrained else _build(name, settings)
    model.num_features = num_features(model)  # type: ignore[assignment]  # nn.Module types attributes as modules
    return model


def input_config(model: nn.Module) -> InputConfig:
    """Read from a timm model what it expects of its images."""
    known: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    size = known.get("input_size", (3, DEFAULT_IMAGE_SIZE, DEFAULT_IMAGE_SIZE))[-1]
    patches = getattr(getattr(model, "patch_embed", None), "img_size", None)
    return InputConfig(
        image_size=int(patches[0] if patches else size),
        mean=tuple(known.get("mean", IMAGENET_MEAN)),
        std=tuple(known.get("std", IMAGENET_STD)),
        interpolation="bicubic" if known.get("interpolation") == "bicubic" else "bilinear",
    )


def num_features(model: nn.Module) -> int:
    """Width of ``model(x)`` for a timm model without classifier (some end in a hidden layer after pooling)."""
    width: Any = getattr(model, "head_hidden_size", None) or model.num_features
    return int(width)


def takes_image_size(model: nn.Module, image_size: int) -> bool:
    """Tell whether the network can take square images of this side (position embeddings may fix another)."""
    patches: Any = getattr(model, "patch_embed", None)
    fixed = getattr(patches, "img_size", None)
    if fixed is None:
        return True
    if getattr(model, "dynamic_img_size", False):
        return bool(image_size % patches.patch_size[0] == 0)
    return bool(fixed[0] == image_size)


def check_name(name: str) -> None:
    """Refuse a name that timm does not know, with the nearest that it does."""
    architecture = name.partition(".")[0]
    if ":" in name or timm.is_model(architecture):
        return
    near = difflib.get_close_matches(architecture, timm.list_models(), n=3)
    hint = f"; did you mean {', '.join(near)}?" if near else "; `timm.list_models()` lists all"
    raise UsageError(f"no backbone is called '{name}'{hint}")


def _has_fixed_size(name: str) -> bool:
    if ":" in name:
        return False
    config = timm.get_pretrained_cfg(name.partition(".")[0])
    return bool(config is not None and config.fixed_input_size)


def _build(name: str, settings: dict[str, Any]) -> nn.Module:
    try:
        model: nn.Module = timm.create_model(name, pretrained=False, **settings)
    except (TypeError, ValueError, AssertionError) as error:
        raise UsageError(f"backbone {name} cannot be built with {settings}: {_first_line(error)}") from error
    return model


def _fetch(name: str, settings: dict[str, Any]) -> nn.Module:
    with fetching(f"timm:{name}"):
        model: nn.Module = timm.create_model(name, pretrained=True, **settings)
    return model


@contextlib.contextmanager
def fetching(spec: str) -> Iterator[None]:
    """Turn whatever goes wrong while pretrained weights are fetched into one line; what hubs log meanwhile is quiet."""
    silenced = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    except Exception as error:  # hubs and their transports share no narrower base class
        raise SimcoreError(
            f"{spec}: its pretrained weights cannot be had ({_first_line(_root(error))}); name a weights file, or "
            f"{spec}@random for fresh weights"
        ) from error
    finally:
        logging.disable(silenced)


def _root(error: BaseException) -> BaseException:
    """What lies at the bottom of a chain of exceptions: usually that there is no network."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return error


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__
