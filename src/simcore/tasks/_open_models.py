"""What the loop trains where unlabelled images may be of foreign classes: one class a method."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simcore.tasks._pseudo_labels import confident, guess, hardened
from simcore.tasks._semi_batches import SemiBatch
from simcore.tasks._semi_losses import (
    masked_mean,
    one_vs_all,
    open_entropy,
    soft_consistency,
    soft_cross_entropy,
)
from simcore.tasks._semi_models import Basis, SemiModel
from simcore.tasks._supervised import Network, fresh_head
from simcore.training.trainable import Moment, StepOutput


class SelfTraining(SemiModel):
    """A student learns the labels, and on unlabelled images what a teacher fine-tuned on the labels says of them.

    Loss: ``(1 - weight) · CE(labelled, label) + weight · CE(unlabelled, softmax(teacher / temperature))``.

    Args:
        teacher: is frozen, in evaluation mode; it sees the same view as the student.
        weight: in [0, 1].
    """

    def __init__(self, basis: Basis, *, teacher: Network, weight: float, temperature: float) -> None:
        super().__init__(basis)
        self.teacher = teacher.requires_grad_(False).eval()
        self.weight, self.temperature = weight, temperature

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all but the teacher."""
        super().train(mode)
        self.teacher.eval()
        return self

    def training_step(self, batch: SemiBatch, moment: Moment) -> StepOutput:
        """Give the weighted sum of both cross-entropies."""
        with torch.no_grad():
            taught = (self.teacher(batch.unlabelled[0]).float() / self.temperature).softmax(1)
        known, other = self.logits([batch.labelled[0], batch.unlabelled[0]])
        supervised = F.cross_entropy(known.float(), batch.labels)
        unsupervised = soft_cross_entropy(other, taught)
        loss = (1.0 - self.weight) * supervised + self.weight * unsupervised
        return StepOutput(loss=loss, logs={"supervised": supervised.detach(), "unsupervised": unsupervised.detach()})


class OpenMatch(SemiModel):
    """Saito et al. 2021: one inlier classifier a class beside the usual head, and FixMatch on judged inliers alone.

    Args:
        num_unlabelled: images that are judged.
        entropy_weight, consistency_weight: of the two losses of the inlier classifiers on unlabelled images.
        threshold: least confidence of a guess in the FixMatch loss.
        start_epoch: the number of epochs after which that loss begins.
    """

    inliers: Tensor

    def __init__(
        self,
        basis: Basis,
        *,
        num_unlabelled: int,
        entropy_weight: float,
        consistency_weight: float,
        threshold: float,
        start_epoch: int,
    ) -> None:
        super().__init__(basis)
        self.entropy_weight, self.consistency_weight = entropy_weight, consistency_weight
        self.threshold, self.start_epoch = threshold, start_epoch
        self.open_weight = nn.Parameter(fresh_head(basis.dim, 2 * basis.num_classes, basis.seed + 1).weight.detach())
        self.register_buffer("inliers", torch.zeros(num_unlabelled))

    def open_logits(self, features: Tensor) -> Tensor:
        """Give inlier and outlier scores [n, 2, num_classes] of features [n, dim]."""
        return F.linear(features, self.open_weight).view(-1, 2, self.num_classes)

    def training_step(self, batch: SemiBatch, moment: Moment) -> StepOutput:
        """Give equation 5 of the paper; unlabelled views are two weak ones and a strong one."""
        one, other, strong = batch.unlabelled
        known = torch.cat(list(batch.labelled))
        sizes = [len(known), len(one), len(other), len(strong)]
        features = self.network.backbone(torch.cat([known, one, other, strong])).flatten(1)
        logits = torch.split(self.network.head(features), sizes)
        first, second, third = torch.split(self.open_logits(features[: sum(sizes[:3])]), sizes[:3])
        labels = batch.labels.repeat(len(batch.labelled))
        parts = {
            "supervised": F.cross_entropy(logits[0].float(), labels),
            "one_vs_all": one_vs_all(first, labels),
            "open_entropy": self.entropy_weight * open_entropy(torch.cat([second, third])),
            "soft_consistency": self.consistency_weight * soft_consistency(second, third),
        }
        if moment.epoch >= self.start_epoch:
            parts["fixmatch"] = self._fixmatch(logits[1], logits[3], batch.rows)
        loss = torch.stack(list(parts.values())).sum()
        return StepOutput(loss=loss, logs={name: part.detach() for name, part in parts.items()})

    def _fixmatch(self, weak: Tensor, strong: Tensor, rows: Tensor) -> Tensor:
        """Average over the judged inliers of the batch, as if it were a batch of inliers alone."""
        guesses = guess([weak])
        each = -(hardened(guesses) * strong.float().log_softmax(1)).sum(1) * confident(guesses, self.threshold)
        return masked_mean(each, self.inliers[rows])
