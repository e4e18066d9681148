"""A trained dense network on disk: one safetensors file that says how to build it again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from simcore.artifacts.files import fingerprint, written_aside
from simcore.backbones import create_backbone
from simcore.backbones.create import InputConfig, num_features
from simcore.embedding import Encoder
from simcore.errors import SimcoreError

KEY = "simcore"


class Dense(Protocol):
    """A model around the network whose tensors are saved."""

    @property
    def network(self) -> nn.Module:
        """The network."""

    def eval(self) -> Any:
        """Make it ready for use."""


Model = TypeVar("Model", bound=Dense)


def save_trained(path: Path | None, network: nn.Module, kind: str, encoder: Encoder, more: Mapping[str, Any]) -> str:
    """Write the network's tensors with the settings it was built by (unless ``path`` is None); give its fingerprint."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    facts = {"kind": kind, "backbone": encoder.backbone_name, **encoder.describe_inputs(), **more}
    digests = {name: fingerprint(value.view(-1).view(torch.uint8).numpy()) for name, value in tensors.items()}
    if path is not None:
        with written_aside(path) as aside:
            save_file(tensors, aside, metadata={KEY: json.dumps(facts)})
    return fingerprint(facts, digests)


def load_trained(place: str | os.PathLike[str], file_name: str, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read facts and tensors of what ``simcore evaluate`` left at ``place`` (a file, or the folder it lies in)."""
    path = Path(place) / file_name if Path(place).is_dir() else Path(place)
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get(KEY, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError, ValueError) as error:
        raise SimcoreError(f"{path}: cannot be read ({error})") from error
    if facts.get("kind") != kind:
        raise SimcoreError(f"{path}: is no {kind} that `simcore evaluate` left")
    return facts, tensors


def rebuilt(
    place: str | os.PathLike[str], file_name: str, kind: str, build: Callable[[Encoder, Mapping[str, Any]], Model]
) -> tuple[Model, dict[str, Any]]:
    """Load a trained model, ready for use, and its facts; ``build`` makes it from an empty encoder and these."""
    facts, tensors = load_trained(place, file_name, kind)
    model = build(_empty_encoder(facts), facts)
    model.network.load_state_dict(tensors)
    model.eval()
    return model, facts


def _empty_encoder(facts: Mapping[str, Any]) -> Encoder:
    """Build the encoder that a network was made around, its weights still to be loaded."""
    inputs = InputConfig().updated(facts)
    backbone = create_backbone(facts["backbone"], seed=0, image_size=inputs.image_size)
    return Encoder(
        backbone,
        spec=facts["backbone"],
        backbone_name=facts["backbone"],
        dim=num_features(backbone),
        inputs=inputs,
    )
