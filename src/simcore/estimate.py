"""What a recipe will cost, before any of it is paid for: images, time and disk of each stage.

Sizes are read from the sources and the settings. Speeds are measured on this machine in a few seconds: decoding on
some images of the sources, the networks on a small batch of made ones. All else is arithmetic, so the figures tell
minutes from days and no more: workers that share cores, caches and other users are not in them.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from simcore.images import ImageFault, ImageSource, open_images
from simcore.recipe import Arm, Recipe, Training

if TYPE_CHECKING:
    from torch import nn

    from simcore.embedding import Encoder

PROBE_IMAGES = 12
PROBE_BATCH = 8
ROW_BYTES = 40  # of a table, beside names: numbers and what Parquet adds
COPIES_OF_STATE = 2  # last.ckpt and the one before it
OPTIMIZER_COPIES = {"sgd": 1, "lars": 1, "adam": 2, "adamw": 2}
CORESETS_PER_TARGET = 50  # the published cap, where a recipe gives no budget


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageCost:
    """One stage: images that pass through it, seconds it takes, bytes it leaves; what is finished costs no time."""

    name: str
    num_images: int
    seconds: float
    num_bytes: int
    finished: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)

    def to_line(self) -> str:
        """One line of the table."""
        spent = "finished" if self.finished else duration(self.seconds)
        return f"{self.name:<40} {self.num_images:>13,} {spent:>10} {self.num_bytes / 1e9:>9.2f} GB"


def estimate(recipe: Recipe, *, moved: bool = False) -> list[StageCost]:
    """Give the cost of each stage, in the order in which they run; some seconds are spent measuring.

    ``moved`` is that of :meth:`Recipe.run`: what it keeps costs nothing.
    """
    costs = {cost.name: cost for cost in _Costs(recipe).all()}
    return [
        dataclasses.replace(costs[stage.name], finished=True, seconds=0.0)
        if stage.is_finished(recipe.out)
        else costs[stage.name]
        for stage in recipe.stages(moved=moved)
    ]


def table(costs: list[StageCost]) -> Iterator[str]:
    """Lay the stages out as lines, with their sum."""
    yield f"{'stage':<40} {'images':>13} {'time':>10} {'disk':>12}"
    yield from (cost.to_line() for cost in costs)
    whole = StageCost(
        name="all",
        num_images=sum(cost.num_images for cost in costs if not cost.finished),
        seconds=sum(cost.seconds for cost in costs),
        num_bytes=sum(cost.num_bytes for cost in costs),
    )
    yield whole.to_line()
    yield "Measured here in a few seconds, so good for orders of magnitude; tasks that train a backbone take longer."


def duration(seconds: float) -> str:
    """Two leading units: 45 s, 12 min, 3.5 h, 2.1 d."""
    for unit, size in (("d", 86_400), ("h", 3_600)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"


@dataclasses.dataclass(frozen=True)
class _Training:
    """What a training costs for each image, and the bytes of its network and of all its state."""

    seconds_per_image: float
    weight_bytes: int
    state_bytes: int


class _Costs:
    """Measures what it needs once, and multiplies."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.target, self.pool = open_images(recipe.target), open_images(recipe.pool)
        self.labelled = 0
        self._known: dict[Any, _Training] = {}
        if recipe.test is not None:
            self.labelled = len(open_images(recipe.train)) + len(open_images(recipe.test, split="test"))

    def all(self) -> Iterator[StageCost]:
        if isinstance(self.recipe.retrieval, Training):
            yield self._pretraining("retrieval", self.recipe.retrieval, own=len(self.target))
        for side in ("target", "pool"):
            yield self._store(side)
        for seed in self.recipe.seeds:
            for arm in self.recipe.arms:
                yield from self._arm(arm, seed)

    @functools.cached_property
    def decoding(self) -> float:
        """Seconds of one core to read and decode an image."""
        return max(decoding_seconds(self.target), decoding_seconds(self.pool))

    @functools.cached_property
    def embedding(self) -> tuple[float, int]:
        """Seconds to embed an image, and the width of its feature."""
        encoder = _encoder_of(self.recipe.retrieval, str(self.recipe.embed.get("device", "auto")))
        return max(_forward_seconds(encoder), self.decoding / _num_cores()), encoder.dim

    def _measured(self, training: Training) -> _Training:
        """Measure a network once, however many trainings have it."""
        settings = training.settings
        key = (training.method, training.backbone, settings.image_size, settings.batch_size, settings.optimizer)
        if key not in self._known:
            self._known[key] = measured_training(training)
        return self._known[key]

    def _store(self, side: str) -> StageCost:
        images: ImageSource = getattr(self, side)
        seconds, dim = self.embedding
        num_bytes = len(images) * (2 * dim + ROW_BYTES) + _name_bytes(images)
        return StageCost(
            name=f"embed-{side}", num_images=len(images), seconds=seconds * len(images), num_bytes=num_bytes
        )

    def _arm(self, arm: Arm, seed: int) -> Iterator[StageCost]:
        added = {"target": 0, "pool": len(self.pool)}.get(arm.kind, self._budget(arm))
        if arm.kind == "selector":
            yield self._selection(f"select-{arm.name}-seed{seed}", added)
        own = 0 if arm.alone else len(self.target)
        cost = self._pretraining(f"pretrain-{arm.name}-seed{seed}", self.recipe.pretrain, own=own, added=added)
        yield self._with_choices(cost) if arm.kind == "selector" else cost
        if self.recipe.test is not None:
            for evaluation in self.recipe.evaluations:
                yield self._evaluation(f"evaluate-{arm.name}-seed{seed}-{evaluation.name}")

    def _budget(self, arm: Arm) -> int:
        from simcore.selection import parse_budget

        asked = parse_budget(arm.budget, len(self.pool))
        return min(len(self.pool), CORESETS_PER_TARGET * len(self.target) if asked is None else asked)

    def _selection(self, name: str, budget: int) -> StageCost:
        _, dim = self.embedding
        centroids = min(100, len(self.target))
        seconds = 2.0 * len(self.pool) * dim * centroids / _multiplications_per_second(dim)
        num_bytes = budget * (ROW_BYTES + _name_bytes(self.pool) // max(1, len(self.pool)))
        return StageCost(name=name, num_images=len(self.pool), seconds=seconds, num_bytes=num_bytes)

    def _pretraining(self, name: str, training: Training, *, own: int, added: int = 0) -> StageCost:
        settings, num_images = training.settings, own + added
        measured = self._measured(training)
        seen = _images_seen(settings, num_images, added)
        each = max(measured.seconds_per_image, self.decoding / _num_cores())
        num_bytes = measured.weight_bytes + COPIES_OF_STATE * measured.state_bytes
        return StageCost(name=name, num_images=seen, seconds=seen * each, num_bytes=num_bytes)

    def _with_choices(self, cost: StageCost) -> StageCost:
        """Add what it costs to choose further coresets on the way: target and pool are embedded for each."""
        stores = [self._store(side) for side in ("target", "pool")]
        times = self.recipe.pretrain.settings.sampling_times - 1
        seconds = cost.seconds + times * sum(store.seconds for store in stores)
        kept = sum(store.num_bytes for store in stores) if times else 0  # those of the last choice
        return dataclasses.replace(cost, seconds=seconds, num_bytes=cost.num_bytes + kept)

    def _evaluation(self, name: str) -> StageCost:
        seconds, dim = self.embedding
        num_bytes = self.labelled * (4 * dim + ROW_BYTES)
        return StageCost(name=name, num_images=self.labelled, seconds=self.labelled * seconds, num_bytes=num_bytes)


def _images_seen(settings: Any, num_images: int, added: int) -> int:
    from simcore.training.schedule import rescaled_epochs

    if settings.max_steps is not None:
        steps: int = settings.max_steps
        return steps * int(min(settings.batch_size, num_images))
    epochs = settings.epochs
    if settings.reference_images is not None:
        epochs = rescaled_epochs(epochs, added or num_images, settings.reference_images)
    passes: int = epochs
    return passes * num_images


def decoding_seconds(images: ImageSource) -> float:
    """Measure what one core takes to read and decode an image, over a few spread through the source."""
    rows = np.unique(np.linspace(0, len(images) - 1, PROBE_IMAGES).astype(int))
    began = time.perf_counter()
    for row in rows.tolist():
        try:
            images.decode(row, short_side=256)
        except ImageFault:
            continue
    return (time.perf_counter() - began) / len(rows)


def _encoder_of(retrieval: Training | str, device: str) -> Encoder:
    """Give a network that costs what the recipe's does; weights change no speed, so none are fetched or trained."""
    from simcore.embedding import load_encoder

    if isinstance(retrieval, Training):
        size = retrieval.settings.image_size
        return load_encoder(f"timm:{retrieval.backbone}@random", device=device, image_size=size)
    named = retrieval.startswith(("timm:", "torchvision:")) and not retrieval.endswith("@random")
    return load_encoder(f"{retrieval}@random" if named else retrieval, device=device)


def _forward_seconds(encoder: Encoder) -> float:
    import torch

    size = encoder.image_size
    batch = torch.zeros(PROBE_BATCH, 3, size, size, dtype=torch.uint8, device=encoder.device)
    return _seconds_of(lambda: encoder(batch).sum().item()) / PROBE_BATCH


def measured_training(training: Training) -> _Training:
    """Make the views of a small batch, go forward and backward; refuse settings that make no network."""
    import torch

    from simcore.training import make_fabric
    from simcore.training.trainable import Moment, ViewBatch
    from simcore.views import collate

    settings = training.settings
    fabric = make_fabric(settings.device, settings.precision)
    model = _model_of(training).to(fabric.device).train()
    pixels = np.random.default_rng(0).integers(0, 256, (settings.image_size, settings.image_size, 3), np.uint8)
    num = min(PROBE_BATCH, settings.batch_size)
    batch, views = collate([pixels] * num).to(fabric.device), training.method.views(settings.image_size)

    def step() -> None:
        made = views(batch, torch.Generator().manual_seed(0))
        is_target = torch.arange(num) < num // 2
        with fabric.autocast():
            found = model.training_step(ViewBatch(views=made, is_target=is_target), Moment(0, 0, 1, 1, 1))
        loss: Any = getattr(found, "loss", found)
        loss.backward()
        loss.item()

    seconds = _seconds_of(step) / num
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    whole = sum(value.numel() for value in model.state_dict().values())
    state = 4 * (whole + trained * OPTIMIZER_COPIES[settings.optimizer])
    weights = 4 * sum(value.numel() for value in model.exported.state_dict().values())
    return _Training(seconds, weights, state)


def _model_of(training: Training) -> Any:
    from simcore.backbones import create_backbone

    size, extra = training.settings.image_size, training.method.backbone_settings(training.backbone)
    body: nn.Module = create_backbone(training.backbone, seed=0, image_size=size, **extra)
    return training.method.build(body)


def _seconds_of(work: Any) -> float:
    """The quickest of some goes, after one that warms up: what others do on the machine only slows."""
    work()
    times: list[float] = []
    while len(times) < 3 or (len(times) < 10 and sum(times) < 2.0):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def _multiplications_per_second(dim: int) -> float:
    rows, centroids = np.ones((2048, dim), np.float32), np.ones((dim, 100), np.float32)
    return 2.0 * rows.size * 100 / _seconds_of(lambda: rows @ centroids)


def _name_bytes(images: ImageSource) -> int:
    return sum(int(pc.sum(pc.binary_length(images.table[name])).as_py() or 0) for name in ("id", "uri"))


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_bytes(folder: Path) -> int:
    """Bytes free where ``folder`` is, or will be."""
    import shutil

    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return int(shutil.disk_usage(place).free)
