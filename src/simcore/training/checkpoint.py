"""The state of a run on disk: ``last.ckpt``, and the one before it in case the newest is damaged."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from simcore.artifacts.files import written_aside
from simcore.errors import SimcoreError, SimcoreWarning

CHECKPOINT_FORMAT = 1
LAST, PREVIOUS = "last.ckpt", "previous.ckpt"


def save_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write ``last.ckpt``, whole or not at all; the one that was there becomes ``previous.ckpt``.

    At every instant one whole checkpoint stands under one of the two names.
    """
    with written_aside(folder / LAST) as aside:
        with aside.open("wb") as file:  # torch's own writer hides what the system says of a full disk
            torch.save({"format": CHECKPOINT_FORMAT, **state}, file)
        if (folder / LAST).exists():
            (folder / LAST).replace(folder / PREVIOUS)


def has_state(folder: Path) -> bool:
    """Whether the folder holds a checkpoint to resume from."""
    return (folder / LAST).exists() or (folder / PREVIOUS).exists()


def load_state(folder: Path) -> dict[str, Any]:
    """Read the newest whole checkpoint of ``folder`` onto the CPU; nothing is unpickled but tensors and numbers.

    Raises:
        SimcoreError: neither file can be used.
    """
    faults = []
    for name in (LAST, PREVIOUS):
        try:
            state = _read(folder / name)
        except SimcoreError as error:
            faults.append(str(error))
            continue
        if faults and (folder / LAST).exists():
            warnings.warn(f"{faults[0]}; going on from {name}, which is older", SimcoreWarning, stacklevel=2)
        return state
    raise SimcoreError("; ".join(faults))


def _read(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load itself lets flipped bits pass
            damaged = archive.testzip()
        state = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise SimcoreError(f"{path}: no such file") from error
    except Exception as error:  # zipfile and torch raise many kinds for damaged files
        raise SimcoreError(f"{path}: damaged, or not a checkpoint ({type(error).__name__})") from error
    if not isinstance(state, dict) or state.get("format") != CHECKPOINT_FORMAT:
        raise SimcoreError(f"{path}: damaged, or not a checkpoint that `simcore` wrote")
    return state
