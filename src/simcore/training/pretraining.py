"""Pretraining: from images and a method to a RUN folder with a backbone."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import timm
import torch
from lightning_fabric import Fabric
from torch import nn

from simcore._version import __version__
from simcore.artifacts import Checkpoint
from simcore.artifacts.files import fingerprint
from simcore.backbones import create_backbone, export_weights, load_weights
from simcore.errors import SimcoreError
from simcore.images.source import ImageSource
from simcore.registry import name_of
from simcore.settings import as_dict
from simcore.training._data import ViewBatches, Views
from simcore.training._decoding import Decoder, cached, spare_workers
from simcore.training._plan import BatchPlan
from simcore.training.checkpoint import has_state
from simcore.training.devices import make_fabric
from simcore.training.loop import fit
from simcore.training.schedule import rescaled_epochs
from simcore.training.settings import FREE_SETTINGS, PretrainSettings
from simcore.training.trainable import Pretrainable


class Method(Protocol):
    """What pretraining asks of a method; see ``simcore.methods``."""

    @property
    def min_batch(self) -> int:
        """Fewest images a process may train on at once."""

    @property
    def drop_last(self) -> bool:
        """Whether every batch must be a full one."""

    def views(self, image_size: int) -> Views:
        """Make the maker of its views."""

    def backbone_settings(self, backbone: str) -> Mapping[str, Any]:
        """Say what it needs of timm's ``create_model`` beside the name."""

    def rescaled(self, share: float) -> Method:
        """Adapt what is counted in epochs to a run that was shortened to ``share`` of its epochs."""

    def build(self, backbone: nn.Module) -> Pretrainable:
        """Put the backbone into the model that is trained; heads draw from torch's default generator."""


def pretrain(
    method: Method,
    images: ImageSource,
    coreset: ImageSource | None = None,
    *,
    backbone: str = "resnet50",
    settings: PretrainSettings | None = None,
    out: Path,
    resume: bool = False,
    quiet: bool = False,
) -> Checkpoint:
    """Train a fresh backbone on ``images``, or on ``images`` and ``coreset`` together, and leave a RUN at ``out``.

    Args:
        method: a strategy of ``simcore.methods``.
        images: the target, or whatever is to be trained on.
        coreset: what is added to it; ``target_share`` and ``reference_images`` need to know it apart.
        backbone: a timm name.
        settings: the published recipe if not given.
        out: the RUN folder.
        resume: go on where an earlier call stopped; if it had finished, nothing is done.
        quiet: no progress on stderr.

    Raises:
        SimcoreError: ``out`` holds another run, too few images, a loss that is no number, and what :func:`fit` raises.
    """
    settings = settings or PretrainSettings()
    fabric = make_fabric(settings.device, settings.precision)
    run = _open_run(method, images, coreset, backbone, settings, out, resume)
    if resume and run.finished:
        return run
    fabric.barrier()  # every process has looked at the folder before one writes to it
    if fabric.is_global_zero:
        run.save()
    method, settings = _rescaled(method, settings, len(images if coreset is None else coreset))
    model = _build(method, backbone, settings, fabric)
    whole = images if coreset is None else images + coreset
    batches = _batches(method, whole, len(images), settings, fabric, quiet)
    label = f"pretrain {name_of(method)}"
    with contextlib.closing(batches):
        fit(model, batches, settings, fabric=fabric, out=out, resume=resume, label=label, quiet=quiet)
    if fabric.is_global_zero:
        described = {key: run.config[key] for key in ("backbone", "image_size", "mean", "std")}
        export_weights(model.exported, run.weights, described)
    fabric.barrier()
    return run


def _rescaled(method: Method, settings: PretrainSettings, num_added: int) -> tuple[Method, PretrainSettings]:
    """Shorten the run for a large coreset, and with it all that is counted in epochs."""
    if settings.reference_images is None:
        return method, settings
    epochs = rescaled_epochs(settings.epochs, num_added, settings.reference_images)
    if epochs == settings.epochs:
        return method, settings
    share = epochs / settings.epochs
    warmup = min(settings.warmup_epochs, math.ceil(settings.warmup_epochs * share))
    return method.rescaled(share), dataclasses.replace(settings, epochs=epochs, warmup_epochs=warmup)


def _open_run(
    method: Method,
    images: ImageSource,
    coreset: ImageSource | None,
    backbone: str,
    settings: PretrainSettings,
    out: Path,
    resume: bool,
) -> Checkpoint:
    """Describe the run, and refuse a folder that holds another one."""
    run = Checkpoint(path=out, config=_config(method, images, coreset, backbone, settings))
    if not (out / "config.yaml").exists():
        if has_state(out):
            raise SimcoreError(f"{out}: holds a checkpoint without config.yaml; choose another folder")
        return run
    if not resume:
        raise SimcoreError(f"{out}: holds a run already; resume it (--resume) or choose another folder")
    changed = _changed(Checkpoint.load(out).config, run.config)
    if changed:
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


def _build(method: Method, backbone: str, settings: PretrainSettings, fabric: Fabric) -> Pretrainable:
    """Make backbone and heads from the seed, with the layout and the batch statistics that the device allows."""
    body = create_backbone(
        backbone, seed=settings.seed, image_size=settings.image_size, **method.backbone_settings(backbone)
    )
    if settings.init is not None:
        load_weights(body, _weights_file(settings.init))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(fingerprint("heads", settings.seed), 16) % 2**63)
        model = method.build(body)
    if _channels_last(settings, fabric):
        model = model.to(memory_format=torch.channels_last)
    if settings.sync_batchnorm and fabric.world_size > 1 and fabric.device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    if settings.compile:
        model.backbone.compile()
    return model


def _weights_file(init: str) -> Path:
    return Checkpoint.load(init).weights if Path(init).is_dir() else Path(init)


def _channels_last(settings: PretrainSettings, fabric: Fabric) -> bool:
    return fabric.device.type == "cuda" if settings.channels_last is None else settings.channels_last


def _batches(
    method: Method, images: ImageSource, num_target: int, settings: PretrainSettings, fabric: Fabric, quiet: bool
) -> ViewBatches:
    plan = BatchPlan(
        num_images=len(images),
        batch_size=settings.batch_size,
        seed=settings.seed,
        min_batch=method.min_batch,
        drop_last=method.drop_last,
        num_target=num_target,
        target_share=settings.target_share,
        world_size=fabric.world_size,
        rank=fabric.global_rank,
    )
    views = method.views(settings.image_size)
    decoder = _decoder(views, images, settings.image_size)
    workers = spare_workers(settings.num_workers, fabric.world_size)
    silent = quiet or not fabric.is_global_zero
    return ViewBatches(
        images,
        cached(decoder, settings.cache_mb // fabric.world_size, workers, silent) or decoder,
        plan,
        views,
        fabric,
        num_workers=workers,
        channels_last=_channels_last(settings, fabric),
    )


def _decoder(views: Any, images: ImageSource, image_size: int) -> Decoder:
    """Keep as much of an image as its views can show.

    The short side is that at which even the smallest square crop has as many pixels as its view. A random resized
    crop finds no box in an image of a larger aspect than 4/3 over the smallest crop's share of the area, and then
    takes the middle.
    """
    smallest = min(views.min_scale, getattr(views, "min_local_scale", 1.0))
    return Decoder(
        source=images,
        short_side=math.ceil(image_size / math.sqrt(views.min_scale)),
        max_aspect=4.0 / 3.0 / smallest,
    )
