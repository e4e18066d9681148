"""From what the user calls an encoder to an Encoder."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from simcore.artifacts import Checkpoint
from simcore.backbones import create_backbone, input_config, load_weights
from simcore.backbones.create import InputConfig, takes_image_size
from simcore.backbones.files import WeightsFile, read_weights
from simcore.backbones.recognise import recognise
from simcore.embedding._collections import load_open_clip, load_torchvision
from simcore.embedding.encoder import Encoder
from simcore.errors import SimcoreError, SimcoreWarning, UsageError

RANDOM = "@random"


def load_encoder(
    spec: str | os.PathLike[str] | Checkpoint,
    *,
    device: str | torch.device = "auto",
    seed: int = 0,
    image_size: int | None = None,
    backbone: str | None = None,
    partial: bool = False,
) -> Encoder:
    """Open an encoder.

    Args:
        spec: a RUN folder of ``simcore pretrain``, a weights file (``PATH@BACKBONE`` where the file does not say
            of which network it is), ``timm:NAME``, ``torchvision:NAME`` or ``open_clip:MODEL[/PRETRAINED]``;
            ``@random`` after one of the last three gives fresh weights, made from ``seed``.
        device: ``auto`` (CUDA, then MPS, then CPU), or a device name.
        image_size: side of the images; by default that which the encoder was trained at, else 224.
        backbone: architecture of a weights file, if it is not in the file.
        partial: accept weights that cover the network only in part.

    Raises ``SimcoreError`` for what is missing, damaged or of another shape, ``UsageError`` for a wrong spec.
    """
    if image_size is not None and image_size < 1:
        raise UsageError(f"--image-size is {image_size}, but must be at least 1")
    if isinstance(spec, Checkpoint):
        encoder = _from_run(spec, image_size, backbone, partial)
    else:
        encoder = _from_text(os.fspath(spec), seed, image_size, backbone, partial)
    return encoder.to(pick_device(device))


def pick_device(name: str | torch.device) -> torch.device:
    """Turn ``auto`` into the best device here (under torchrun: the process's own), and check a named one."""
    if isinstance(name, torch.device):
        return name
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"--device is '{name}', but must be auto, cpu, cuda, cuda:N or mps") from error
    if device.type == "cuda" and ":" not in str(name):
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % max(1, torch.cuda.device_count()))
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SimcoreError(f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices")
    return device


def encoder_of_run(backbone: nn.Module, run: Checkpoint) -> Encoder:
    """Give the encoder that the backbone of a run is while the run is not finished yet."""
    inputs = input_config(backbone).updated(run.config)
    device = next(backbone.parameters()).device
    return _encoder(backbone, str(run.path), str(run.config["backbone"]), None, inputs).to(device)


def _from_text(spec: str, seed: int, image_size: int | None, backbone: str | None, partial: bool) -> Encoder:
    collection, _, name = spec.partition(":")
    fresh = name.endswith(RANDOM)
    name = name.removesuffix(RANDOM)
    if collection == "timm":
        return _from_timm(spec, name, seed, image_size, fresh)
    if collection in ("torchvision", "open_clip"):
        load = load_torchvision if collection == "torchvision" else load_open_clip
        network, dim, inputs = load(name, seed=seed, fresh=fresh)
        return Encoder(network, spec=spec, backbone_name=spec, dim=dim, inputs=_resized(inputs, image_size))
    path = Path(spec)
    if not path.exists() and "@" in spec:
        text, _, backbone = spec.rpartition("@")
        path = Path(text)
    if path.is_dir():
        return _from_run(Checkpoint.load(path), image_size, backbone, partial)
    if not path.is_file():
        ways = "a RUN folder, a weights file, timm:NAME, torchvision:NAME or open_clip:NAME"
        hint = f"; did you mean timm:{spec}?" if timm.is_model(name or spec) else ""
        raise SimcoreError(f"{spec}: no such file or folder (an encoder is {ways}){hint}")
    return _from_file(path, image_size, backbone, partial)


def _from_timm(spec: str, name: str, seed: int, image_size: int | None, fresh: bool) -> Encoder:
    network = create_backbone(name, seed=seed, image_size=image_size, pretrained=not fresh)
    return _encoder(network, spec, name, image_size, input_config(network))


def _from_run(run: Checkpoint, image_size: int | None, backbone: str | None, partial: bool) -> Encoder:
    if not run.finished:
        raise SimcoreError(f"{run.path}: this RUN has no backbone.safetensors yet; let `simcore pretrain` finish it")
    return _with_weights(read_weights(run.weights), str(run.path), run.config, image_size, backbone, partial)


def _from_file(path: Path, image_size: int | None, backbone: str | None, partial: bool) -> Encoder:
    weights = read_weights(path)
    return _with_weights(weights, str(path), weights.metadata or _config_beside(path), image_size, backbone, partial)


def _with_weights(
    weights: WeightsFile,
    spec: str,
    config: Mapping[str, Any],
    image_size: int | None,
    backbone: str | None,
    partial: bool,
) -> Encoder:
    """Build the network that the file, its config or the user names, and fill it."""
    trained_at = config.get("image_size")
    name = backbone or config.get("backbone")
    if name is None:
        name, trained_at = recognise(weights.content, source=spec)
    network = create_backbone(str(name), seed=0, image_size=trained_at)
    report = load_weights(network, weights.content, source=spec, partial=partial)
    if report.left_over or not report.complete:
        warnings.warn(report.describe(), SimcoreWarning, stacklevel=4)
    inputs = input_config(network).updated({**config, "image_size": trained_at})
    return _encoder(network, spec, str(name), image_size, inputs, report)


def _encoder(
    network: nn.Module, spec: str, name: str, image_size: int | None, inputs: InputConfig, report: Any = None
) -> Encoder:
    if image_size is not None and not takes_image_size(network, image_size):
        raise UsageError(f"{spec}: {name} has positions for {inputs.image_size} px and cannot take {image_size} px")
    width: Any = network.num_features
    return Encoder(
        network,
        spec=spec,
        backbone_name=name,
        dim=int(width),
        inputs=_resized(inputs, image_size),
        load_report=report,
    )


def _resized(inputs: InputConfig, image_size: int | None) -> InputConfig:
    return inputs if image_size is None else dataclasses.replace(inputs, image_size=image_size)


def _config_beside(path: Path) -> Mapping[str, Any]:
    """Take the config of the RUN that a file lies in, if it lies in one."""
    if not (path.parent / "config.yaml").is_file():
        return {}
    return Checkpoint.load(path.parent).config
