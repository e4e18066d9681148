"""The RUN folder: what describes a run, and whether another one may go on in its place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch

from simcore._version import __version__
from simcore.artifacts import Checkpoint
from simcore.errors import SimcoreError
from simcore.images.source import ImageSource
from simcore.registry import name_of
from simcore.settings import as_dict
from simcore.training.checkpoint import has_state
from simcore.training.settings import FREE_SETTINGS, PretrainSettings
from simcore.training.trainable import Method


def open_run(
    method: Method,
    images: ImageSource,
    coreset: ImageSource | None,
    backbone: str,
    settings: PretrainSettings,
    out: Path,
    resume: bool,
    sampling: Mapping[str, Any] | None = None,
) -> Checkpoint:
    """Describe the run, and refuse a folder that holds another one; ``sampling`` says how it chooses its coresets."""
    config = _config(method, images, coreset, backbone, settings)
    run = Checkpoint(path=out, config=config if sampling is None else {**config, "sampling": dict(sampling)})
    if not (out / "config.yaml").exists():
        if has_state(out):
            raise SimcoreError(f"{out}: holds a checkpoint without config.yaml; choose another folder")
        return run
    if not resume:
        raise SimcoreError(f"{out}: holds a run already; resume it (--resume) or choose another folder")
    changed = _changed(Checkpoint.load(out).config, run.config)
    if changed and (has_state(out) or run.finished):  # before the first checkpoint there is nothing to lose
        raise SimcoreError(f"{out}: holds a run with other settings ({'; '.join(changed)}); choose another folder")
    return run


def _config(
    method: Method, images: ImageSource, coreset: ImageSource | None, backbone: str, settings: PretrainSettings
) -> dict[str, Any]:
    parts = {"images": images} | ({} if coreset is None else {"coreset": coreset})
    views: Any = method.views(settings.image_size)
    return {
        "method": name_of(method),
        "method_settings": as_dict(method),
        "backbone": backbone,
        "image_size": settings.image_size,
        "mean": list(views.mean),
        "std": list(views.std),
        "settings": as_dict(settings),
        "data": {name: {"name": part.name, "num_images": len(part)} for name, part in parts.items()},
        "parents": {name: part.fingerprint for name, part in parts.items()},
        "versions": {"simcore": __version__, "torch": str(torch.__version__), "timm": timm.__version__},
    }


def _changed(before: Mapping[str, Any], now: Mapping[str, Any], where: str = "") -> list[str]:
    """Name the settings in which two configs differ, those left aside that change nothing in the result."""
    changed = []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if name in ("data", "versions"):  # the fingerprints of the data are compared, not their paths
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            changed += _changed(old, new, f"{where}{name}.")
        elif old != new and name not in FREE_SETTINGS:
            changed.append(f"{where}{name} was {old}, is {new}")
    return changed
