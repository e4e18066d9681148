"""Where a run computes and in which number format: settings to Lightning Fabric."""

from __future__ import annotations

import logging
import os
from typing import Any

import torch
from lightning_fabric import Fabric

from simcore.errors import SimcoreError, UsageError


def make_fabric(device: str = "auto", precision: str = "auto") -> Fabric:
    """Set up one device, or under torchrun this process's share of the devices of all nodes.

    Args:
        device: ``auto`` (CUDA, then MPS, then CPU), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: ``auto`` (on CUDA ``bf16-mixed`` where the card has it, else ``16-mixed``; elsewhere ``32``),
            ``32``, ``16-mixed`` or ``bf16-mixed``.
    """
    accelerator, index = resolve_device(device)
    chosen: dict[str, Any] = {"accelerator": accelerator, "devices": 1 if index is None else [index]}
    if "LOCAL_WORLD_SIZE" not in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
        raise UsageError("WORLD_SIZE is set without LOCAL_WORLD_SIZE: start several processes with torchrun")
    if "LOCAL_WORLD_SIZE" in os.environ:  # torchrun
        local, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ.get("WORLD_SIZE", "1"))
        chosen = {"accelerator": accelerator, "devices": local, "num_nodes": max(1, world // local), "strategy": "ddp"}
    if accelerator == "cpu" and isinstance(chosen["devices"], list):
        chosen["devices"] = 1
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # its advice on precision is not the user's to take
    fabric = Fabric(precision=resolve_precision(precision, accelerator), **chosen)
    fabric.launch()
    return fabric


def resolve_device(device: str) -> tuple[str, int | None]:
    """Split a device name into accelerator and number, refusing what this machine lacks."""
    name, _, number = device.partition(":")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name not in ("cpu", "cuda", "mps") or (number and not number.isdigit()):
        raise UsageError(f"--device is '{device}', but must be auto, cpu, cuda, cuda:N or mps")
    if name == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise SimcoreError(f"--device {device}: this machine has {torch.cuda.device_count()} CUDA devices")
    if name == "mps" and not torch.backends.mps.is_available():
        raise SimcoreError(f"--device {device}: this machine has no MPS device")
    return name, int(number) if number else None


def resolve_precision(precision: str, accelerator: str) -> Any:
    """Turn ``auto`` into a format that the accelerator is quick in; give Fabric's name of it."""
    if precision == "auto":
        if accelerator != "cuda":
            return "32-true"
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    return "32-true" if precision == "32" else precision
