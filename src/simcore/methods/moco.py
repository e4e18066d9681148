"""MoCo (He et al. 2020, arXiv 1911.05722): contrast a view with a slow copy's keys, kept in a queue."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from simcore.methods._heads import mlp, width
from simcore.methods._method import Method
from simcore.methods._teacher import teacher_of
from simcore.settings import setting
from simcore.training.gather import gather_detached
from simcore.training.trainable import Moment, Pretrainable, StepOutput, ViewBatch

__all__ = ["MoCo"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MoCo(Method):
    """The first view's query finds the second view's key among a queue of earlier keys.

    The defaults are the published system's (temperature 1, 1,024 keys), which are unusual; ``paper`` and ``v2``
    are those of the two MoCo papers. Batches are not shuffled between processes.
    """

    presets = MappingProxyType(
        {
            "paper": {"temperature": 0.07, "queue_size": 65536},
            "v2": {"temperature": 0.2, "queue_size": 65536, "hidden_layer": True},
        }
    )
    recipes = MappingProxyType(
        {
            "paper": {"batch_size": 256, "lr": 0.03, "epochs": 200, "schedule": "step", "lr_decay_epochs": (120, 160)},
            "v2": {"batch_size": 256, "lr": 0.03, "epochs": 200, "schedule": "cosine"},
        }
    )
    drop_last: ClassVar[bool] = True

    temperature: float = setting(1.0, "divides the cosines")
    queue_size: int = setting(1024, "keys that a query is compared with")
    key_momentum: float = setting(0.999, "share of itself that the key network keeps")
    projection_dim: int = setting(128, "width of the projection")
    hidden_layer: bool = setting(False, "project through a hidden layer (v2) instead of linearly")

    def build(self, backbone: nn.Module) -> Pretrainable:
        """Put a projector on ``backbone``, with a key network and its queue beside it."""
        return MoCoModel(self, backbone)


class MoCoModel(Pretrainable):
    """Query network, key network, and the queue: unit keys [queue_size, projection_dim], random at the start."""

    queue: Tensor
    queue_next: Tensor

    def __init__(self, method: MoCo, backbone: nn.Module) -> None:
        super().__init__()
        self.method, self.backbone = method, backbone
        dim = width(backbone)
        self.projector = mlp(dim, dim, method.projection_dim, norm=False, num_layers=2 if method.hidden_layer else 1)
        self.key_network = teacher_of(self._query_network())
        self.register_buffer("queue", normalize(torch.randn(method.queue_size, method.projection_dim)))
        self.register_buffer("queue_next", torch.zeros((), dtype=torch.int64))

    def _query_network(self) -> nn.Sequential:
        return nn.Sequential(self.backbone, self.projector)

    def training_step(self, batch: ViewBatch, moment: Moment) -> StepOutput:
        """Take two views: the first gives queries, the second keys."""
        query_view, key_view = batch.views
        features = self.backbone(query_view)
        queries = normalize(self.projector(features).float())
        with torch.no_grad():
            keys = normalize(self.key_network(key_view).float())
        loss = info_nce(queries, keys, self.queue, self.method.temperature)
        self._new_keys = gather_detached(keys)  # they join the queue once the backward pass has read it
        return StepOutput(loss=loss, features=features, projections=queries)

    def after_step(self, moment: Moment) -> None:
        """Let the key network follow, and queue the keys."""
        self._enqueue(self._new_keys)
        self.key_network.update(self._query_network(), self.method.key_momentum)

    @torch.no_grad()
    def _enqueue(self, keys: Tensor) -> None:
        """Write keys over the oldest ones; of more keys than places the last are kept."""
        size = len(self.queue)
        places = (self.queue_next + torch.arange(len(keys), device=keys.device)) % size
        self.queue[places[-size:]] = keys[-size:]
        self.queue_next.add_(len(keys)).remainder_(size)


def info_nce(queries: Tensor, keys: Tensor, others: Tensor, temperature: float) -> Tensor:
    """InfoNCE (equation 1 of the paper): mean of ``-log softmax`` of a query's own key among it and the others.

    Shape:
        queries, keys: [n, dim], unit length, key i belonging to query i. others: [K, dim], unit length.
    """
    own = (queries * keys).sum(dim=1, keepdim=True)
    logits = torch.cat([own, queries @ others.T], dim=1) / temperature
    return cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.int64))
