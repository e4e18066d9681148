"""BYOL (Grill et al. 2020, arXiv 2006.07733): predict a slow copy's projection of the other view."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from simcore.methods._heads import mlp, width
from simcore.methods._method import Method
from simcore.methods._teacher import EMA_SCHEDULES, ema_decay, teacher_of
from simcore.settings import setting
from simcore.training.trainable import Moment, Pretrainable, StepOutput, ViewBatch

__all__ = ["BYOL"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BYOL(Method):
    """A predictor on the online network regresses the target network's projection, symmetrically."""

    presets = MappingProxyType({"paper": {"ema_schedule": "step"}})
    recipes = MappingProxyType(
        {
            "paper": {
                "optimizer": "lars",
                "batch_size": 4096,
                "lr": 3.2,
                "weight_decay": 1.5e-6,
                "warmup_epochs": 10,
                "epochs": 1000,
                "schedule": "cosine-per-step",
            }
        }
    )

    hidden_dim: int = setting(4096, "hidden width of projector and predictor")
    projection_dim: int = setting(256, "width of the projection")
    initial_ema: float = setting(0.996, "share of itself that the target network keeps, at the start")
    ema_schedule: str = setting("epoch", "when that share moves towards 1", choices=EMA_SCHEDULES)

    def build(self, backbone: nn.Module) -> Pretrainable:
        """Put projector and predictor on ``backbone``, with a target network beside it."""
        return BYOLModel(self, backbone)


class BYOLModel(Pretrainable):
    """Online network (backbone, projector, predictor) and target network (backbone, projector)."""

    def __init__(self, method: BYOL, backbone: nn.Module) -> None:
        super().__init__()
        self.method, self.backbone = method, backbone
        self.projector = mlp(width(backbone), method.hidden_dim, method.projection_dim)
        self.predictor = mlp(method.projection_dim, method.hidden_dim, method.projection_dim)
        self.target = teacher_of(self._online())

    def _online(self) -> nn.Sequential:
        return nn.Sequential(self.backbone, self.projector)

    def training_step(self, batch: ViewBatch, moment: Moment) -> StepOutput:
        """Take two views; each goes through by itself, with its own batch statistics."""
        first, second = batch.views
        features = [self.backbone(view) for view in (first, second)]
        predictions = [self.predictor(self.projector(one)) for one in features]
        with torch.no_grad():
            targets = [self.target(view) for view in (second, first)]
        loss = sum(map(regression_loss, predictions, targets), start=predictions[0].new_zeros(()))
        return StepOutput(loss=loss, features=features[0])

    def after_step(self, moment: Moment) -> None:
        """Let the target network follow."""
        self.target.update(self._online(), ema_decay(self.method.initial_ema, self.method.ema_schedule, moment))


def regression_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean of ``2 - 2 cos(prediction, target)`` (equation 2 of the paper); no gradient flows to the target.

    Shape:
        both [n, dim], any length.
    """
    return (2.0 - 2.0 * cosine_similarity(prediction.float(), target.detach().float(), dim=-1)).mean()
