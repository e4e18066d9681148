"""Networks of torchvision and open_clip as feature extractors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torchvision
from torch import Tensor, nn

from simcore.backbones.create import InputConfig, fetching
from simcore.errors import SimcoreError, UsageError
from simcore.settings import suggest

T = TypeVar("T")
NUM_IMAGENET_CLASSES = 1000


def load_torchvision(name: str, *, seed: int, fresh: bool) -> tuple[nn.Module, int, InputConfig]:
    """Build a torchvision classifier without its last layer; give it, the width of its output, and its inputs."""
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise UsageError(f"torchvision has no classifier '{name}'{suggest(name, known)}")
    weights = torchvision.models.get_model_weights(name).DEFAULT

    def build() -> nn.Module:
        model: nn.Module = torchvision.models.get_model(name, weights=None if fresh else weights)
        return model

    with fetching(f"torchvision:{name}"):
        network = _seeded(build, seed if fresh else 0)
    dim = _drop_classifier(network, name)
    preset = weights.transforms()
    return network, dim, InputConfig(image_size=preset.crop_size[0], mean=tuple(preset.mean), std=tuple(preset.std))


def load_open_clip(name: str, *, seed: int, fresh: bool) -> tuple[nn.Module, int, InputConfig]:
    """Build the image tower of an open_clip model; ``name`` is ``MODEL`` or ``MODEL/PRETRAINED``.

    Its output is CLIP's embedding, that is after the tower's own projection.
    """
    try:
        import open_clip
    except ImportError as error:
        raise SimcoreError("open_clip: encoders need the extra: pip install 'simcore[openclip]'") from error
    model_name, _, tag = name.partition("/")
    if model_name not in open_clip.list_models():
        raise UsageError(f"open_clip has no model '{model_name}'{suggest(model_name, open_clip.list_models())}")
    tags = open_clip.list_pretrained_tags_by_model(model_name)
    if not fresh and not (tag or tags):
        raise UsageError(f"open_clip has no weights for '{model_name}'; {model_name}@random gives fresh ones")
    chosen = None if fresh else tag or tags[0]

    def build() -> nn.Module:
        tower: nn.Module = open_clip.create_model(model_name, pretrained=chosen).visual
        return tower

    with fetching(f"open_clip:{name}"):
        network = _seeded(build, seed if fresh else 0)
    shown: Any = network
    size = shown.image_size[0] if isinstance(shown.image_size, tuple | list) else shown.image_size
    inputs = InputConfig(
        image_size=int(size),
        mean=tuple(getattr(shown, "image_mean", None) or open_clip.OPENAI_DATASET_MEAN),
        std=tuple(getattr(shown, "image_std", None) or open_clip.OPENAI_DATASET_STD),
        interpolation="bicubic",
    )
    return network, _output_width(network, inputs.image_size), inputs


def _seeded(build: Callable[[], T], seed: int) -> T:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return build()


def _drop_classifier(network: nn.Module, name: str) -> int:
    """Put an identity in place of the last linear layer; give the width of what went into it."""
    layers = [(path, module) for path, module in network.named_modules() if isinstance(module, nn.Linear)]
    path, last = layers[-1] if layers else ("", nn.Linear(1, 1))
    if last.out_features != NUM_IMAGENET_CLASSES:
        raise UsageError(f"torchvision:{name} does not end in a linear classifier; use another network")
    parent, _, leaf = path.rpartition(".")
    setattr(network.get_submodule(parent), leaf, nn.Identity())
    return last.in_features


@torch.no_grad()
def _output_width(network: nn.Module, image_size: int) -> int:
    features: Tensor = network.eval()(torch.zeros(1, 3, image_size, image_size))
    return int(features.flatten(1).shape[1])
