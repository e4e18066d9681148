"""Weights files: safetensors and torch checkpoints, opened without running any code that they may hold."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pickle
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from simcore.artifacts.files import parse_json, written_aside
from simcore.errors import SimcoreError

METADATA_KEY = "simcore"
PICKLE_OR_ZIP = (b"\x80", b"PK")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class WeightsFile:
    """What a file holds: ``content`` (tensors by name, possibly nested) and simcore's ``metadata`` if it has any."""

    path: Path
    content: Mapping[str, Any]
    metadata: Mapping[str, Any]


def read_weights(path: str | os.PathLike[str]) -> WeightsFile:
    """Open a safetensors file or a torch checkpoint (``weights_only``), whatever its name ends in.

    Raises ``SimcoreError`` where it is missing, cut, something else, or holds objects that only unpickling
    could restore.
    """
    place = Path(path)
    try:
        with place.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise SimcoreError(f"{place}: cannot be opened ({error.strerror})") from error
    if head[8:9] == b"{":
        return _read_safetensors(place)
    return WeightsFile(path=place, content=_read_torch(place, head), metadata={})


def export_weights(model: nn.Module, path: str | os.PathLike[str], metadata: Mapping[str, Any]) -> Path:
    """Write the model's tensors under their timm names, with ``metadata`` as JSON under the key ``simcore``.

    The file opens with ``timm.create_model(name, num_classes=0, checkpoint_path=path)``.
    """
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    with written_aside(path) as aside:
        save_file(tensors, aside, metadata={METADATA_KEY: json.dumps(dict(metadata), sort_keys=True)})
    return Path(path)


def tensor_groups(
    content: Mapping[str, Any], path: str = "", depth: int = 4
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """List every mapping of names to tensors in a checkpoint with the dotted path that leads to it."""
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if tensors:
        yield path, tensors
    for key, value in content.items():
        if depth and isinstance(key, str) and isinstance(value, Mapping):
            yield from tensor_groups(value, f"{path}.{key}" if path else key, depth - 1)


def _read_safetensors(place: Path) -> WeightsFile:
    try:
        with safe_open(place, framework="pt") as file:
            metadata = parse_json((file.metadata() or {}).get(METADATA_KEY, "{}"))
            content = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise SimcoreError(f"{place}: a cut or damaged safetensors file ({error})") from error
    return WeightsFile(path=place, content=content, metadata=metadata if isinstance(metadata, dict) else {})


def _read_torch(place: Path, head: bytes) -> Mapping[str, Any]:
    if not head.startswith(PICKLE_OR_ZIP):
        raise SimcoreError(f"{place}: not a weights file (neither safetensors nor a torch checkpoint)")
    try:
        # Published checkpoints keep their command line as a Namespace, which is a bag of attributes and no code.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings(action="ignore"):
            content = torch.load(place, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise SimcoreError(
            f"{place}: not safe to open: it holds Python objects beside tensors (or is damaged); where you trust it, "
            "save its state_dict alone with torch and give that file"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        raise SimcoreError(f"{place}: a cut, damaged or foreign weights file ({_line(error)})") from error
    if not isinstance(content, Mapping):
        raise SimcoreError(f"{place}: holds {type(content).__name__}, not tensors by name")
    return content


def _line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0][:160] if text else type(error).__name__
