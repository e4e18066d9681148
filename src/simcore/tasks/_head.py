"""A trained linear head: class names, weights, and the encoder that its features must come from."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from simcore.artifacts.files import fingerprint, parse_json, written_aside
from simcore.errors import SimcoreError

HEAD_FORMAT = 1
FILE_NAME = "head.safetensors"
BESIDE = "."  # the encoder of a head that was trained together with its backbone lies in the head's own folder


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Head:
    """Scores = features @ weight.T + bias, features as the backbone gives them.

    Attributes:
        weight: float32 [num_classes, dim].
        bias: float32 [num_classes].
        classes: name of each row of ``weight``.
        encoder: spec, fingerprint, backbone and image_size of its encoder; empty where features were plain arrays.
        unit_rows: whether feature rows are scaled to length 1 first.
    """

    weight: Tensor
    bias: Tensor
    classes: tuple[str, ...]
    encoder: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    unit_rows: bool = False

    @property
    def dim(self) -> int:
        """Width of the features that it takes."""
        return self.weight.shape[1]

    @property
    def fingerprint(self) -> str:
        """Equal for equal weights and classes."""
        return fingerprint(self.weight.cpu().numpy(), self.bias.cpu().numpy(), list(self.classes))

    def logits(self, features: Tensor) -> Tensor:
        """Give scores float32 [n, num_classes] of features [n, dim], on the device of the features."""
        if features.shape[1] != self.dim:
            raise SimcoreError(f"the head takes features of {self.dim} dimensions, not {features.shape[1]}")
        rows = torch.nn.functional.normalize(features.float(), dim=1) if self.unit_rows else features.float()
        return torch.nn.functional.linear(rows, self.weight.to(rows.device), self.bias.to(rows.device))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file, whole or not at all; the rest goes into its metadata as JSON."""
        meta = {
            "format": HEAD_FORMAT,
            "classes": list(self.classes),
            "encoder": dict(self.encoder),
            "unit_rows": self.unit_rows,
        }
        tensors = {"weight": self.weight.cpu().contiguous(), "bias": self.bias.cpu().contiguous()}
        with written_aside(path) as aside:
            save_file(tensors, aside, metadata={"simcore": json.dumps(meta, ensure_ascii=False)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Head:
        """Read a head file, or the one in a folder; ``SimcoreError`` where there is none."""
        place = Path(path)
        place = place / FILE_NAME if place.is_dir() else place
        if not place.is_file():
            raise SimcoreError(f"{place}: no such file")
        try:
            return cls._read(place)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise SimcoreError(f"{place}: not a head that `simcore evaluate` wrote ({error})") from error

    @classmethod
    def _read(cls, place: Path) -> Head:
        with safe_open(place, framework="pt") as stored:
            meta: dict[str, Any] = parse_json((stored.metadata() or {})["simcore"])
            weight, bias = stored.get_tensor("weight"), stored.get_tensor("bias")
        if meta["format"] != HEAD_FORMAT or weight.shape != (len(bias), weight.shape[1]):
            raise ValueError("another format")
        if len(meta["classes"]) != len(bias):
            raise ValueError(f"{len(meta['classes'])} class names for {len(bias)} rows")
        return cls(
            weight=weight,
            bias=bias,
            classes=tuple(meta["classes"]),
            encoder=meta["encoder"],
            unit_rows=meta["unit_rows"],
        )
