"""What detection and segmentation share: their settings, the training of a dense model, and what they leave."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from simcore.artifacts.files import fingerprint
from simcore.errors import UsageError
from simcore.images import ImageSource
from simcore.settings import setting
from simcore.tasks._scenes import Scenes, scene_batches
from simcore.tasks._task import Task
from simcore.tasks._tuned import state_folder
from simcore.training import FitSettings, fit
from simcore.training.settings import OPTIMIZERS
from simcore.training.trainable import Trainable


@dataclasses.dataclass(frozen=True, kw_only=True)
class SceneTask(Task):
    """Train a dense head on a backbone; a subclass says which, and may have other defaults."""

    epochs: int = setting(100, "passes over the training images")
    lr: float = setting(1e-4, "learning rate at its highest")
    batch_size: int = setting(16, "images a step, over all processes")
    optimizer: str = setting("adam", "update rule", choices=OPTIMIZERS)
    momentum: float = setting(0.9, "momentum of SGD (Nesterov) and LARS")
    weight_decay: float = setting(5e-4, "weight decay")
    schedule: str = setting("cosine", "course of the learning rate", choices=("cosine", "poly", "constant"))
    clip_grad: float = setting(0.0, "largest gradient norm, 0 for no clipping")
    backbone_lr_scale: float = setting(0.0, "learning rate of the backbone as a share of --lr; 0: it stays frozen")
    precision: str = setting("auto", "number format of training: auto, 32, 16-mixed or bf16-mixed")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.backbone_lr_scale < 0:
            raise UsageError(f"--backbone-lr-scale is {self.backbone_lr_scale:g}, but must be at least 0")
        self.fit_settings()  # refuses epochs and the like that are out of range

    def fit_settings(self) -> FitSettings:
        """Say the recipe to the training loop."""
        return FitSettings(
            epochs=self.epochs,
            lr=self.lr,
            optimizer=self.optimizer,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            clip_grad=self.clip_grad,
            precision=self.precision,
            device=self.device,
            seed=self.seed,
        )

    def train_on(
        self,
        model: DenseModel,
        scenes: Scenes,
        fabric: Fabric,
        *,
        parents: Mapping[str, str],
        out: Path | None,
        label: str,
        min_batch: int,
        quiet: bool,
    ) -> int:
        """Run the loop, going on from what an interrupted run left; give the number of unreadable images."""
        batches = scene_batches(
            scenes,
            fabric,
            seed=self.seed,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            min_batch=min_batch,
        )
        state = state_folder(self, parents, out)
        with contextlib.closing(batches):
            fit(model, batches, self.fit_settings(), fabric=fabric, out=state, resume=True, label=label, quiet=quiet)
            return batches.num_unreadable


class DenseModel(Trainable):
    """A network around a pretrained ``body``, which is frozen (weights and statistics) or has a rate of its own."""

    body: nn.Module

    def __init__(self, backbone_lr_scale: float) -> None:
        super().__init__()
        self.backbone_lr_scale = backbone_lr_scale

    def freeze_if_wanted(self) -> None:
        """Take the body out of training; to be called once it is there."""
        if self.backbone_lr_scale == 0:
            self.body.requires_grad_(False)
            self.body.eval()

    def train(self, mode: bool = True) -> DenseModel:
        """Switch everything but a frozen body: its batch statistics must not drift."""
        super().train(mode)
        if self.backbone_lr_scale == 0:
            self.body.eval()
        return self

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Give the head's parameters, and those of the body at their own rate."""
        inner = {id(parameter) for parameter in self.body.parameters()}
        outer = [p for p in self.parameters() if id(p) not in inner and p.requires_grad]
        groups: list[dict[str, Any]] = [{"params": outer, "weight_decay": weight_decay}]
        if self.backbone_lr_scale > 0:
            tuned = list(self.body.parameters())
            groups.append({"params": tuned, "weight_decay": weight_decay, "lr_scale": self.backbone_lr_scale})
        return groups

    def is_sound(self) -> bool:
        """Whether all weights are numbers."""
        return all(bool(torch.isfinite(weight).all()) for weight in self.parameters())


@contextlib.contextmanager
def drawn_weights(what: str, seed: int) -> Any:
    """Let the fresh weights made inside depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(fingerprint(what, seed), 16) % 2**63)
        yield


def gathered(found: Sequence[Any], fabric: Fabric) -> list[Any]:
    """Join the lists of all processes."""
    if fabric.world_size == 1:
        return list(found)
    parts: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(parts, list(found))
    return [one for part in parts for one in part]


def example_of(source: ImageSource, row: int) -> dict[str, Any]:
    """Say which image an example of the report shows."""
    table = source.table
    return {"id": table["id"][row].as_py(), "uri": table["uri"][row].as_py()}
