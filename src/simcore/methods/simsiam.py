"""SimSiam (Chen and He 2021, arXiv 2011.10566): BYOL without the slow copy; stopping the gradient is enough."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType

from torch import nn

from simcore.methods._heads import mlp, width
from simcore.methods._method import Method
from simcore.methods.byol import regression_loss
from simcore.settings import setting
from simcore.training.trainable import Moment, Pretrainable, StepOutput, ViewBatch

__all__ = ["SimSiam"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimSiam(Method):
    """A predictor regresses the same network's projection of the other view, whose gradient is stopped.

    The defaults take BYOL's heads; the preset ``paper`` has the paper's: a projector of three layers that ends in
    batch normalisation, and a predictor with a bottleneck. The loss is BYOL's, that is 4 plus 4 times the paper's: a
    learning rate from the paper is to be divided by 4.
    """

    presets = MappingProxyType(
        {
            "paper": {
                "hidden_dim": 2048,
                "projection_dim": 2048,
                "predictor_dim": 512,
                "projector_layers": 3,
                "projector_norm": True,
            }
        }
    )
    recipes = MappingProxyType(
        {"paper": {"batch_size": 512, "lr": 0.025, "weight_decay": 1e-4, "epochs": 100, "schedule": "cosine"}}
    )

    hidden_dim: int = setting(4096, "hidden width of the projector")
    projection_dim: int = setting(256, "width of the projection")
    predictor_dim: int = setting(4096, "hidden width of the predictor")
    projector_layers: int = setting(2, "linear layers of the projector")
    projector_norm: bool = setting(False, "end the projector in batch normalisation without gain and bias")

    def build(self, backbone: nn.Module) -> Pretrainable:
        """Put projector and predictor on ``backbone``."""
        return SimSiamModel(self, backbone)


class SimSiamModel(Pretrainable):
    """Backbone, projector and predictor."""

    def __init__(self, method: SimSiam, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = mlp(
            width(backbone), method.hidden_dim, method.projection_dim, num_layers=method.projector_layers
        )
        if method.projector_norm:
            self.projector.append(nn.BatchNorm1d(method.projection_dim, affine=False))
        self.predictor = mlp(method.projection_dim, method.predictor_dim, method.projection_dim)

    def training_step(self, batch: ViewBatch, moment: Moment) -> StepOutput:
        """Take two views; each goes through by itself, with its own batch statistics."""
        features = [self.backbone(view) for view in batch.views]
        first, second = (self.projector(one) for one in features)
        loss = regression_loss(self.predictor(first), second) + regression_loss(self.predictor(second), first)
        return StepOutput(loss=loss, features=features[0])
