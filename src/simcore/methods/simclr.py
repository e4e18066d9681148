"""SimCLR (Chen et al. 2020, arXiv 2002.05709): two views of an image agree against all others of the batch."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType

import torch
from torch import Tensor, nn

from simcore.methods._contrast import nt_xent
from simcore.methods._method import Method
from simcore.settings import setting
from simcore.training.trainable import Moment, Pretrainable, StepOutput, ViewBatch

__all__ = ["SimCLR"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimCLR(Method):
    """NT-Xent over both views of a batch, behind a head of two linear layers without batch normalisation."""

    presets = MappingProxyType({"paper": {"temperature": 0.1}})
    recipes = MappingProxyType(
        {
            "paper": {
                "optimizer": "lars",
                "batch_size": 4096,
                "lr": 4.8,
                "weight_decay": 1e-6,
                "warmup_epochs": 10,
                "epochs": 1000,
                "schedule": "cosine-per-step",
            }
        }
    )

    temperature: float = setting(0.07, "divides the cosines of NT-Xent")
    projection_dim: int = setting(128, "width of the projection")

    def build(self, backbone: nn.Module) -> Pretrainable:
        """Put a projector on ``backbone``."""
        return SimCLRModel(self, backbone)


class SimCLRModel(Pretrainable):
    """Backbone and projector d -> d -> ReLU -> projection_dim."""

    def __init__(self, method: SimCLR, backbone: nn.Module) -> None:
        super().__init__()
        dim = int(backbone.num_features)  # type: ignore[arg-type]
        self.method, self.backbone = method, backbone
        self.projector = nn.Sequential(
            nn.Linear(dim, dim), nn.ReLU(inplace=True), nn.Linear(dim, method.projection_dim)
        )

    def training_step(self, batch: ViewBatch, moment: Moment) -> StepOutput:
        """Take two views; both go through the network at once and share batch statistics."""
        features = self.backbone(torch.cat(list(batch.views)))
        projections = self.projector(features)
        return StepOutput(loss=self.loss(projections), features=features, projections=projections)

    def loss(self, projections: Tensor) -> Tensor:
        """Give the loss of projections [2n, dim], first views then second views."""
        return nt_xent(projections, self.method.temperature)
