"""SwAV (Caron et al. 2020, arXiv 2006.09882): views predict each other's balanced cluster assignment."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, normalize

from simcore.methods._crops import any_size, features_of_crops
from simcore.methods._heads import mlp, width
from simcore.methods._method import Method
from simcore.settings import setting
from simcore.training.gather import gather_detached, sum_over_processes, world
from simcore.training.trainable import Moment, Pretrainable, StepOutput, ViewBatch
from simcore.views import MultiCrop

__all__ = ["SwAV"]

NUM_ASSIGNED = 2  # the two large crops are assigned to prototypes; all crops predict


@dataclasses.dataclass(frozen=True, kw_only=True)
class SwAV(Method):
    """Prototypes, balanced codes by Sinkhorn-Knopp, and a swapped prediction over all crops.

    ``paper`` has the paper's 3,000 prototypes, smaller head, six small crops and queue.
    """

    presets = MappingProxyType(
        {
            "paper": {
                "num_prototypes": 3000,
                "hidden_dim": 2048,
                "projection_dim": 128,
                "epsilon": 0.05,
                "num_local_crops": 6,
                "queue_length": 3840,
            }
        }
    )
    recipes = MappingProxyType(
        {
            "paper": {
                "optimizer": "lars",
                "batch_size": 4096,
                "lr": 4.8,
                "weight_decay": 1e-6,
                "warmup_epochs": 10,
                "epochs": 800,
                "schedule": "cosine-per-step",
            }
        }
    )
    drop_last: ClassVar[bool] = True

    num_prototypes: int = setting(100, "prototypes")
    hidden_dim: int = setting(4096, "hidden width of the projector")
    projection_dim: int = setting(2048, "width of the projection")
    temperature: float = setting(0.1, "divides the similarities to prototypes in the prediction")
    epsilon: float = setting(0.02, "divides them in the assignment; smaller is harder")
    sinkhorn_iterations: int = setting(3, "rounds of Sinkhorn-Knopp")
    freeze_prototypes: int = setting(1, "epochs at the start in which the prototypes stay as they are")
    queue_length: int = setting(0, "earlier projections that join the assignment, for small batches")
    queue_from_epoch: int = setting(15, "epochs before the queue is used")
    num_local_crops: int = setting(0, "small crops beside the two large ones")
    local_size: int | None = setting(None, "side of a small crop in pixels; by default 96 for 224, and in proportion")

    def views(self, image_size: int) -> Any:
        """Two large crops and ``num_local_crops`` small ones."""
        return MultiCrop(image_size=image_size, local_size=self.local_size, num_local=self.num_local_crops)

    def backbone_settings(self, backbone: str) -> Mapping[str, Any]:
        """Ask for crops of any size."""
        return any_size(backbone)

    def rescaled(self, share: float) -> SwAV:
        """Shorten what is counted in epochs along with the run, as published."""
        return dataclasses.replace(self, freeze_prototypes=max(1, int(10 * share)))

    def build(self, backbone: nn.Module) -> Pretrainable:
        """Put projector and prototypes on ``backbone``."""
        return SwAVModel(self, backbone)


class SwAVModel(Pretrainable):
    """Backbone, projector, prototypes [num_prototypes, projection_dim] and a queue of projections for each large crop.

    The queue [2, queue_length, projection_dim] holds zeros where it has not been filled yet; newest come first. All
    processes hold the same one, and each takes its share of it into the assignment.
    """

    queue: Tensor

    def __init__(self, method: SwAV, backbone: nn.Module) -> None:
        super().__init__()
        self.method, self.backbone = method, backbone
        self.projector = mlp(width(backbone), method.hidden_dim, method.projection_dim)
        self.prototypes = nn.Linear(method.projection_dim, method.num_prototypes, bias=False)
        self.register_buffer("queue", torch.zeros(NUM_ASSIGNED, method.queue_length, method.projection_dim))

    def training_step(self, batch: ViewBatch, moment: Moment) -> StepOutput:
        """Take the crops, the two large ones first; crops of one size share batch statistics."""
        self._normalise_prototypes()
        features = features_of_crops(self.backbone, batch.views)
        num_crops = len(batch.views)
        projections = normalize(self.projector(features).float())
        with torch.autocast(projections.device.type, enabled=False):
            scores = self.prototypes(projections).view(num_crops, -1, self.method.num_prototypes)
            codes = self._codes(projections.detach().view(num_crops, -1, projections.shape[1]), scores.detach(), moment)
        loss = swapped_prediction(scores, codes, self.method.temperature)
        return StepOutput(loss=loss, features=features[: scores.shape[1]])

    @torch.no_grad()
    def _normalise_prototypes(self) -> None:
        self.prototypes.weight.copy_(normalize(self.prototypes.weight))

    @torch.no_grad()
    def _codes(self, projections: Tensor, scores: Tensor, moment: Moment) -> Tensor:
        """Assign the large crops to prototypes, the queue's projections taking part: [2, n, num_prototypes]."""
        method, size, (rank, num_processes) = self.method, scores.shape[1], world()
        queued = method.queue_length > 0 and moment.epoch >= method.queue_from_epoch
        codes = []
        for crop in range(NUM_ASSIGNED):
            joined = scores[crop]
            if queued and bool(self.queue[crop, -1].any()):  # full
                joined = torch.cat([joined, self.prototypes(self.queue[crop, rank::num_processes])])
            codes.append(sinkhorn(joined, method.epsilon, method.sinkhorn_iterations)[:size])
            if queued:
                newest = gather_detached(projections[crop])
                self.queue[crop] = torch.cat([newest, self.queue[crop]])[: method.queue_length]
        return torch.stack(codes)

    def before_update(self, moment: Moment) -> None:
        """Hold the prototypes for the first epochs."""
        if moment.epoch < self.method.freeze_prototypes:
            self.prototypes.weight.grad = None


@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float, num_iterations: int) -> Tensor:
    """Turn scores into soft codes that use all prototypes equally (equation 3 and appendix A of the paper).

    Args:
        scores: cosines to prototypes [n, K]; under several processes the balance is over all of theirs.
        epsilon: divides the scores.
        num_iterations: of making first the prototypes', then the samples' shares equal.

    Returns:
        codes [n, K], each row a distribution.
    """
    num_samples, num_prototypes = scores.shape[0] * world()[1], scores.shape[1]
    shifted = (scores.float() - 1.0) / epsilon  # a cosine is at most 1: no overflow
    codes = torch.exp(shifted).clamp_(min=torch.finfo(torch.float32).tiny)
    codes /= sum_over_processes(codes.sum())
    for _ in range(num_iterations):
        codes /= sum_over_processes(codes.sum(dim=0)) * num_prototypes
        codes /= codes.sum(dim=1, keepdim=True) * num_samples
    return codes * num_samples


def swapped_prediction(scores: Tensor, codes: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy between the code of each large crop and every other crop's softmax (equation 2).

    Shape:
        scores: [num_crops, n, K]; codes: [2, n, K], of the first two crops.
    """
    predictions = log_softmax(scores / temperature, dim=-1)
    terms = [
        -(codes[crop] * predictions[other]).sum(dim=-1).mean()
        for crop in range(len(codes))
        for other in range(len(scores))
        if other != crop
    ]
    return torch.stack(terms).mean()
