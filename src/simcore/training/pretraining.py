"""Pretraining: from images and a method to a RUN folder with a backbone."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from torch import nn

from simcore.artifacts import Checkpoint
from simcore.artifacts.files import fingerprint
from simcore.backbones import create_backbone, export_weights, load_weights
from simcore.errors import UsageError
from simcore.images.source import ImageSource
from simcore.registry import name_of
from simcore.training._card import write_card
from simcore.training._data import ViewBatches
from simcore.training._decoding import cached, decoder_for, spare_workers
from simcore.training._plan import BatchPlan
from simcore.training._probe import NeighbourProbe
from simcore.training._run_folder import note_moved, open_run
from simcore.training._stages import StagedBatches
from simcore.training.devices import make_fabric
from simcore.training.gather import copy_from_first
from simcore.training.loop import OnEpoch, fit
from simcore.training.schedule import rescaled_epochs
from simcore.training.settings import PretrainSettings
from simcore.training.trainable import Method, Moment, Pretrainable
from simcore.views import CenterView


class Resample(Protocol):
    """Chooses the later coresets of a run."""

    def __call__(self, backbone: nn.Module, number: int) -> ImageSource:
        """Give coreset ``number`` (from 2), chosen with the features that ``backbone`` gives."""

    def described(self, times: int) -> Mapping[str, Any]:
        """Say what decides the choices, for ``config.yaml``; a resumed run must say the same."""


def pretrain(
    method: Method,
    images: ImageSource,
    coreset: ImageSource | None = None,
    *,
    backbone: str = "resnet50",
    settings: PretrainSettings | None = None,
    out: Path,
    resume: bool = False,
    moved: bool = False,
    quiet: bool = False,
    resample: Resample | None = None,
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
        moved: go on, too, if nothing but the dates of the images' files changed, as in a copy.
        quiet: no progress on stderr.
        resample: with ``sampling_times`` T > 1, called as ``resample(backbone, number)`` for the coresets number
            2 … T, with a copy of the backbone as it is then, in eval mode, by every process. For one number it must
            always give the same images, also to a resumed run: it has to keep what it chose
            (:class:`simcore.resampling.Resampling` does).

    Raises:
        SimcoreError: ``out`` holds another run, too few images, a loss that is no number, and what :func:`fit` raises.
    """
    settings = settings or PretrainSettings()
    if settings.sampling_times > 1 and (coreset is None or resample is None):
        raise UsageError("--sampling-times above 1 needs a first coreset, and a pool to choose the others from")
    fabric = make_fabric(settings.device, settings.precision)
    sampling = None if resample is None else resample.described(settings.sampling_times)
    run = open_run(method, images, coreset, backbone, settings, out, resume, sampling, moved)
    finished = resume and run.finished
    fabric.barrier()  # every process has looked at the folder before one writes to it
    if finished:
        if fabric.is_global_zero and moved:
            note_moved(run)
        return run
    method, settings = _rescaled(method, settings, len(images if coreset is None else coreset))
    model = _build(method, backbone, settings, fabric)
    loader = _Loader(method, images, settings, fabric, quiet)
    look = _probing(model, loader.probe(), settings.probe_every)
    label, quiet = f"pretrain {name_of(method)}", loader.quiet
    with contextlib.closing(loader.batches(coreset, model, resample)) as batches:
        if fabric.is_global_zero:
            run.save()  # only now: what cannot be built or fed must not leave a folder that holds a run
        fit(model, batches, settings, fabric=fabric, out=out, resume=resume, label=label, quiet=quiet, on_epoch=look)
    if fabric.is_global_zero:
        described = {key: run.config[key] for key in ("backbone", "image_size", "mean", "std")}
        export_weights(model.exported, run.weights, described)
        write_card(run)
    fabric.barrier()
    return run


def _probing(model: Pretrainable, probe: NeighbourProbe | None, every: int) -> OnEpoch | None:
    if probe is None or every == 0:
        return None

    def look(moment: Moment) -> dict[str, float]:
        return {"knn": probe.measure(model.exported)} if (moment.epoch + 1) % every == 0 else {}

    return look


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
    return fabric.device.type != "mps" if settings.channels_last is None else settings.channels_last


class _Loader:
    """What turns images into batches for one run."""

    def __init__(
        self, method: Method, images: ImageSource, settings: PretrainSettings, fabric: Fabric, quiet: bool
    ) -> None:
        self.method, self.images, self.settings, self.fabric = method, images, settings, fabric
        self.quiet = quiet or not fabric.is_global_zero
        self.num_workers = spare_workers(settings.num_workers, fabric.world_size)

    def batches(
        self, coreset: ImageSource | None, model: Pretrainable, resample: Resample | None
    ) -> ViewBatches | StagedBatches:
        """Give the batches of the whole run."""
        if coreset is None or resample is None or self.settings.sampling_times == 1:
            return self._of(coreset, None)

        def choose(stage: int) -> ImageSource:
            encoder = copy.deepcopy(model.exported).eval().requires_grad_(False)
            copy_from_first(encoder)
            return resample(encoder, stage + 1)

        return StagedBatches(self._of, coreset, self.settings, choose)

    def probe(self) -> NeighbourProbe | None:
        """Give the probe on the target, where it has labels; one process is enough for it."""
        views: Any = self.method.views(self.settings.image_size)
        view = CenterView(image_size=self.settings.image_size, mean=views.mean, std=views.std)
        probe = NeighbourProbe(self.images, view, self.fabric, self.num_workers)
        return probe if probe.useful and self.fabric.is_global_zero else None

    def _of(self, coreset: ImageSource | None, fixed_steps: int | None) -> ViewBatches:
        settings, images = self.settings, self.images if coreset is None else self.images + coreset
        plan = BatchPlan(
            num_images=len(images),
            batch_size=settings.batch_size,
            seed=settings.seed,
            min_batch=self.method.min_batch,
            drop_last=self.method.drop_last,
            num_target=len(self.images),
            target_share=settings.target_share,
            fixed_steps=fixed_steps,
            world_size=self.fabric.world_size,
            rank=self.fabric.global_rank,
        )
        views = self.method.views(settings.image_size)
        decoder = decoder_for(images, views, settings.image_size)
        limit_mb = settings.cache_mb // self.fabric.world_size
        return ViewBatches(
            images,
            cached(decoder, limit_mb, self.num_workers, self.quiet) or decoder,
            plan,
            views,
            self.fabric,
            num_workers=self.num_workers,
            channels_last=_channels_last(settings, self.fabric),
        )
