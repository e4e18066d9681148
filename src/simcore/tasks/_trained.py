"""A trained dense network on disk, one safetensors file that says how to build it again; and in use."""

from __future__ import annotations

import dataclasses
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from simcore.artifacts.files import fingerprint, parse_json, written_aside
from simcore.backbones import create_backbone
from simcore.backbones.create import InputConfig, num_features
from simcore.embedding import Encoder
from simcore.errors import SimcoreError
from simcore.images import ImageSource
from simcore.tasks._dense_model import DenseModel
from simcore.tasks._scenes import AT_ONCE, PlainScene, PlainScenes, in_order

KEY = "simcore"
ENDING = ".safetensors"

Model = TypeVar("Model", bound=DenseModel)
Answer = TypeVar("Answer")


@dataclasses.dataclass(frozen=True, eq=False)
class Trained(ABC, Generic[Model, Answer]):
    """A dense model ready for use, with the facts that it was saved with."""

    model: Model
    facts: Mapping[str, Any]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names; the numbers in an answer index into them."""
        return tuple(self.facts["classes"])

    @abstractmethod
    def scenes(self, images: ImageSource) -> PlainScenes:
        """Resize as was done in training."""

    @abstractmethod
    def answer(self, scenes: Sequence[PlainScene]) -> Iterable[Answer]:
        """Give the model's answer to each."""

    def __call__(
        self, images: ImageSource, *, batch_size: int = AT_ONCE, num_workers: int | None = 0
    ) -> Iterator[tuple[PlainScene, Answer]]:
        """Yield each readable image, resized, with the answer to it, in source order; warn of all others."""
        for piece in in_order(self.scenes(images), num_workers=num_workers, at_once=batch_size):
            yield from zip(piece.scenes, self.answer(piece.scenes), strict=True)


def save_trained(out: Path | None, network: nn.Module, kind: str, encoder: Encoder, more: Mapping[str, Any]) -> str:
    """Write ``KIND.safetensors``: the network's tensors with the facts that it was built by; give its fingerprint.

    Nothing is written where ``out`` is None.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    facts = {"kind": kind, "backbone": encoder.backbone_name, **encoder.describe_inputs(), **more}
    digests = {name: fingerprint(value.view(-1).view(torch.uint8).numpy()) for name, value in tensors.items()}
    if out is not None:
        with written_aside(out / f"{kind}{ENDING}") as aside:
            save_file(tensors, aside, metadata={KEY: json.dumps(facts)})
    return fingerprint(facts, digests)


def load_trained(
    place: str | os.PathLike[str], kind: str, build: Callable[[Encoder, Mapping[str, Any]], Model]
) -> tuple[Model, dict[str, Any]]:
    """Load a model ready for use, and its facts; ``build`` makes it from an encoder without weights and these.

    ``place`` is the folder that ``simcore evaluate`` left, or the file in it.
    """
    facts, tensors = _read(Path(place), kind)
    try:
        model = build(_empty_encoder(facts), facts)
        model.network.load_state_dict(tensors)
    except (KeyError, RuntimeError) as error:
        raise SimcoreError(f"{place}: its {kind} was left by another version of simcore ({error})") from error
    model.eval()
    return model, facts


def kind_told(file: Path) -> str | None:
    """Say what a file holds by its own words; None where it is no dense network of ours."""
    try:
        with safe_open(file, framework="pt") as opened:
            kind = _facts(opened).get("kind")
    except (OSError, SafetensorError, ValueError):
        return None
    return None if kind is None else str(kind)


def _facts(opened: Any) -> dict[str, Any]:
    """Read what an open file says of its network; raises ``ValueError`` where that is no mapping."""
    facts = parse_json((opened.metadata() or {}).get(KEY, "{}"))
    if not isinstance(facts, dict):
        raise ValueError("its description is no mapping")
    return facts


def _read(place: Path, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    path = place / f"{kind}{ENDING}" if place.is_dir() else place
    try:
        with safe_open(path, framework="pt") as file:
            facts = _facts(file)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError, ValueError) as error:
        raise SimcoreError(f"{path}: cannot be read ({error})") from error
    if facts.get("kind") != kind:
        raise SimcoreError(f"{path}: is no {kind} that `simcore evaluate` left")
    return facts, tensors


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
