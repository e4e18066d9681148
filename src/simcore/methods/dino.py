"""DINO (Caron et al. 2021, arXiv 2104.14294): a student matches its slow teacher's sharpened output over crops."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, normalize, softmax

from simcore.methods._crops import any_size, features_of_crops
from simcore.methods._heads import DirectionLinear, width
from simcore.methods._method import Method
from simcore.methods._teacher import EMA_SCHEDULES, ema_decay, teacher_of
from simcore.settings import setting
from simcore.training.gather import sum_over_processes, world
from simcore.training.trainable import Moment, Pretrainable, StepOutput, ViewBatch
from simcore.views import MultiCrop

__all__ = ["DINO"]

NUM_GLOBAL = 2  # the teacher sees the two large crops, the student all


@dataclasses.dataclass(frozen=True, kw_only=True)
class DINO(Method):
    """Self-distillation with centring and sharpening; what is kept is the teacher's backbone.

    ``paper`` has the eight small crops, the frozen last layer and the warm-up of the teacher's temperature.
    """

    presets = MappingProxyType(
        {
            "paper": {
                "num_local_crops": 8,
                "freeze_last_layer": 1,
                "temp_warmup_epochs": 30,
                "ema_schedule": "step",
            }
        }
    )
    recipes = MappingProxyType(
        {
            "paper": {
                "optimizer": "adamw",
                "batch_size": 1024,
                "lr": 0.002,
                "weight_decay": 0.04,
                "weight_decay_end": 0.4,
                "warmup_epochs": 10,
                "epochs": 300,
                "schedule": "cosine-per-step",
                "clip_grad": 3.0,
            }
        }
    )

    out_dim: int = setting(65536, "outputs that student and teacher match")
    hidden_dim: int = setting(2048, "hidden width of the head")
    bottleneck_dim: int = setting(256, "width before the last layer")
    norm_last_layer: bool = setting(False, "hold the gains of the last layer at 1")
    student_temperature: float = setting(0.1, "divides the student's outputs")
    initial_temperature: float = setting(0.04, "divides the teacher's outputs at the start of the warm-up")
    teacher_temperature: float = setting(0.07, "divides the teacher's outputs after it")
    temp_warmup_epochs: int = setting(0, "epochs over which the teacher's temperature rises linearly")
    center_momentum: float = setting(0.9, "share of itself that the centre keeps")
    freeze_last_layer: int = setting(0, "epochs at the start in which the last layer stays as it is")
    drop_path: float = setting(0.1, "stochastic depth of the student")
    initial_ema: float = setting(0.996, "share of itself that the teacher keeps, at the start")
    ema_schedule: str = setting("epoch", "when that share moves towards 1", choices=EMA_SCHEDULES)
    num_local_crops: int = setting(0, "small crops beside the two large ones")
    local_size: int | None = setting(None, "side of a small crop in pixels; by default 96 for 224, and in proportion")

    def views(self, image_size: int) -> Any:
        """Two large crops and ``num_local_crops`` small ones."""
        return MultiCrop(image_size=image_size, local_size=self.local_size, num_local=self.num_local_crops)

    def backbone_settings(self, backbone: str) -> Mapping[str, Any]:
        """Ask for stochastic depth, and for crops of any size."""
        return {**any_size(backbone), **({"drop_path_rate": self.drop_path} if self.drop_path > 0 else {})}

    def rescaled(self, share: float) -> DINO:
        """Shorten what is counted in epochs along with the run, as published."""
        return dataclasses.replace(
            self, freeze_last_layer=max(1, int(10 * share)), temp_warmup_epochs=int(2000 * share)
        )

    def build(self, backbone: nn.Module) -> Pretrainable:
        """Put a head on ``backbone``, with a teacher beside it that starts as the student."""
        return DINOModel(self, backbone)


class DINOHead(nn.Sequential):
    """Three layers with GELU to a bottleneck, unit length, and a last layer of directions and gains."""

    def __init__(self, dim: int, method: DINO) -> None:
        hidden = method.hidden_dim
        body = [nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU()]
        body.append(nn.Linear(hidden, method.bottleneck_dim))
        for layer in body:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        last = DirectionLinear(method.bottleneck_dim, method.out_dim, learn_gain=not method.norm_last_layer)
        super().__init__(*body, _UnitLength(), last)


class _UnitLength(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return normalize(x, dim=-1)


class DINOModel(Pretrainable):
    """Student and teacher, each a backbone and a head, and the centre [1, out_dim] of the teacher's outputs."""

    center: Tensor

    def __init__(self, method: DINO, backbone: nn.Module) -> None:
        super().__init__()
        self.method, self.backbone = method, backbone
        self.head = DINOHead(width(backbone), method)
        self.teacher_backbone, self.teacher_head = teacher_of(backbone), teacher_of(self.head)
        self.register_buffer("center", torch.zeros(1, method.out_dim))

    @property
    def exported(self) -> nn.Module:
        """The teacher's backbone."""
        return self.teacher_backbone.module

    def training_step(self, batch: ViewBatch, moment: Moment) -> StepOutput:
        """Take the crops, the two large ones first; crops of one size share batch statistics."""
        num_crops = len(batch.views)
        features = features_of_crops(self.backbone, batch.views)
        student = self.head(features)
        with torch.no_grad():
            seen = features_of_crops(self.teacher_backbone, batch.views[:NUM_GLOBAL])
            teacher = self.teacher_head(seen).float()
        loss = distillation(
            student.float().view(num_crops, -1, student.shape[1]),
            teacher.view(NUM_GLOBAL, -1, teacher.shape[1]),
            self.center,
            student_temperature=self.method.student_temperature,
            teacher_temperature=self.teacher_temperature(moment),
        )
        self._teacher_mean = teacher.mean(dim=0, keepdim=True)  # joins the centre once the loss has used it
        return StepOutput(loss=loss, features=seen[: len(batch.views[0])])

    def teacher_temperature(self, moment: Moment) -> float:
        """Rise linearly, epoch by epoch, and then stay."""
        method = self.method
        if moment.epoch >= method.temp_warmup_epochs:
            return method.teacher_temperature
        share = moment.epoch / max(1, method.temp_warmup_epochs - 1)
        return method.initial_temperature + share * (method.teacher_temperature - method.initial_temperature)

    def before_update(self, moment: Moment) -> None:
        """Hold the last layer for the first epochs."""
        if moment.epoch < self.method.freeze_last_layer:
            for parameter in self.head[-1].parameters():
                parameter.grad = None

    @torch.no_grad()
    def after_step(self, moment: Moment) -> None:
        """Move the centre, and let the teacher follow."""
        mean = sum_over_processes(self._teacher_mean) / world()[1]
        self.center.lerp_(mean, 1.0 - self.method.center_momentum)
        decay = ema_decay(self.method.initial_ema, self.method.ema_schedule, moment)
        self.teacher_backbone.update(self.backbone, decay)
        self.teacher_head.update(self.head, decay)


def distillation(
    student: Tensor, teacher: Tensor, center: Tensor, *, student_temperature: float, teacher_temperature: float
) -> Tensor:
    """Mean cross-entropy of the student's crops under the teacher's, pairs of the same crop left out (equation 2).

    Shape:
        student: [num_crops, n, K]; teacher: [2, n, K], of the first two crops; center: [1, K].
    """
    targets = softmax((teacher - center) / teacher_temperature, dim=-1)
    predictions = log_softmax(student / student_temperature, dim=-1)
    terms = [
        -(targets[crop] * predictions[other]).sum(dim=-1).mean()
        for crop in range(len(targets))
        for other in range(len(predictions))
        if other != crop
    ]
    return torch.stack(terms).mean()
