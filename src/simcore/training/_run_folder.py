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
    moved: bool = False,
) -> Checkpoint:
    """Describe the run, and refuse a folder that holds another one.

    ``sampling`` says how the run chooses its coresets; ``moved`` takes images for the same if only dates differ.
    """
    config = _config(method, images, coreset, backbone, settings)
    run = Checkpoint(path=out, config=config if sampling is None else {**config, "sampling": dict(sampling)})
    if not (out / "config.yaml").exists():
        if has_state(out):
            raise SimcoreError(f"{out}: holds a checkpoint without config.yaml; choose another folder")
        return run
    begun = has_state(out) or run.finished  # before the first checkpoint there is nothing to lose
    if not resume:
        how = "resume it" if begun else "it has saved nothing yet: begin anew in it"
        raise SimcoreError(f"{out}: holds a run already; {how} (--resume) or choose another folder")
    before = Checkpoint.load(out).config
    changed = _changed(before, run.config)
    if not changed or not begun:
        return run
    if _only_dates(before, run.config, changed):
        if moved:
            return run
        raise SimcoreError(
            f"{out}: holds a run on images whose files have other dates now (names, sizes and labels are the same); "
            "add --moved if they were copied or moved, else choose another folder"
        )
    raise SimcoreError(f"{out}: holds a run with other settings ({'; '.join(changed)}); choose another folder")


def note_moved(run: Checkpoint) -> None:
    """Write into a finished run's config what its images are known by now; all else stays as it was trained."""
    before = Checkpoint.load(run.path).config
    renewed = {name: run.config[name] for name in ("data", "parents", "sampling") if name in run.config}
    if {**before, **renewed} != before:
        Checkpoint(path=run.path, config={**before, **renewed}).save()


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
        "data": {
            name: {"name": part.name, "num_images": len(part), "undated": part.undated} for name, part in parts.items()
        },
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


def _only_dates(before: Mapping[str, Any], now: Mapping[str, Any], changed: list[str]) -> bool:
    """Tell whether the runs differ in nothing but the modification times of the images' files."""
    if not all("parents" in line.partition(" was ")[0].split(".") for line in changed):
        return False
    old, new = _undated(before), _undated(now)
    return None not in new.values() and old == new


def _undated(config: Mapping[str, Any]) -> dict[str, str | None]:
    """Give the undated fingerprints of everything that a run reads, of its sampling too."""
    found = {name: part.get("undated") for name, part in config.get("data", {}).items()}
    sampling = config.get("sampling") or {}
    return found | {f"sampling.{name}": part.get("undated") for name, part in sampling.get("data", {}).items()}
