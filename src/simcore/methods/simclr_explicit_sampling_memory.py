"""SimCLR against the batch and the hardest of a memory of open-set projections."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from simcore.methods._contrast import similarities
from simcore.methods.simclr import SimCLR, SimCLRModel
from simcore.settings import setting
from simcore.training.gather import gather_detached
from simcore.training.trainable import Moment, Pretrainable, StepOutput, ViewBatch

__all__ = ["SimCLRExplicitSamplingMemory"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimCLRExplicitSamplingMemory(SimCLR):
    """Beside the batch's negatives stand the most similar of a memory of projections of images outside the target.

    To be run on a target with its pool (or coreset) added; published as ``explicit_sampling_memory``
    (OpenSSL-SimCore, table 17).
    """

    memory_size: int = setting(65536, "projections remembered")
    negative_share: float = setting(0.7, "share of the memory that is used, the hardest")

    def build(self, backbone: nn.Module) -> Pretrainable:
        """Put a projector on ``backbone``, with a memory beside it."""
        return _Model(self, backbone)


class _Model(SimCLRModel):
    """Memory: unit projections [memory_size, projection_dim], of which the first ``num_remembered`` are filled."""

    method: SimCLRExplicitSamplingMemory
    memory: Tensor
    num_written: Tensor

    def __init__(self, method: SimCLRExplicitSamplingMemory, backbone: nn.Module) -> None:
        super().__init__(method, backbone)
        self.register_buffer("memory", torch.zeros(method.memory_size, method.projection_dim))
        self.register_buffer("num_written", torch.zeros((), dtype=torch.int64))

    def training_step(self, batch: ViewBatch, moment: Moment) -> StepOutput:
        """Take two views, and note which images are not of the target."""
        features = self.backbone(torch.cat(list(batch.views)))
        projections = self.projector(features)
        added = gather_detached((~batch.is_target).repeat(2).to(projections.device, torch.uint8))
        self._to_remember = gather_detached(normalize(projections.float()))[added.bool()]
        return StepOutput(loss=self.loss(projections), features=features, projections=projections)

    def loss(self, projections: Tensor) -> Tensor:
        filled = self.memory[: int(self.num_written.clamp(max=len(self.memory)))]
        return memory_loss(projections, filled, self.method.temperature, self.method.negative_share)

    @torch.no_grad()
    def after_step(self, moment: Moment) -> None:
        """Remember the new projections in place of the oldest."""
        size, new = len(self.memory), self._to_remember[-len(self.memory) :]
        places = (self.num_written + torch.arange(len(new), device=new.device)) % size
        self.memory[places] = new
        self.num_written.add_(len(new))


def memory_loss(projections: Tensor, memory: Tensor, temperature: float, share: float) -> Tensor:
    """NT-Xent whose negatives are joined by the ``int(m * share)`` most similar of m remembered projections.

    Shape:
        projections: [2n, dim], first views then second views; memory: [m, dim], unit length, m may be 0.
    """
    with torch.autocast(projections.device.type, enabled=False):
        logits, positives = similarities(projections, temperature)
        remembered = normalize(projections.float()) @ memory.T / temperature
        hardest = remembered.topk(int(len(memory) * share), dim=1).values
        return cross_entropy(torch.cat([logits, hardest], dim=1), positives)
