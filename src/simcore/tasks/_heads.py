"""Linear classifiers side by side: one a learning rate, trained on the same batches by the one loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from simcore.tasks._features import LabelledFeatures
from simcore.tasks._metrics import Answers, accuracies
from simcore.training.trainable import Moment, StepOutput, Trainable

INIT_STD = 0.01


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """How good one head was after one epoch: a metric in percent, and its mean cross-entropy to settle ties."""

    lr: float
    epoch: int
    accuracy: float
    loss: float

    @property
    def order(self) -> tuple[float, float]:
        """Greater is better; a head that diverged comes last."""
        return (self.accuracy, -self.loss) if np.isfinite(self.loss) else (-1.0, -np.inf)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Kept:
    """A head as it was after one epoch: weight float32 [num_classes, dim], bias [num_classes]."""

    score: Score
    weight: Tensor
    bias: Tensor


class Heads(Trainable):
    """One linear classifier for each learning rate; they share batches and nothing else.

    The heads start alike. After every epoch each is measured on ``watched`` and the best so far is kept: by
    ``metric``, then lower loss, then earlier. With nothing to watch, the first head is kept as it is after
    ``keep_epoch``.
    """

    def __init__(
        self,
        *,
        dim: int,
        num_classes: int,
        lrs: Sequence[float],
        seed: int,
        watched: LabelledFeatures | None = None,
        metric: str = "top1",
        keep_epoch: int | None = None,
    ) -> None:
        super().__init__()
        start = torch.empty(num_classes, dim).normal_(0.0, INIT_STD, generator=torch.Generator().manual_seed(seed))
        self.weights = nn.ParameterList([nn.Parameter(start.clone()) for _ in lrs])
        self.biases = nn.ParameterList([nn.Parameter(torch.zeros(num_classes)) for _ in lrs])
        self.lrs, self.metric = tuple(lrs), metric
        self.watched, self.keep_epoch = watched, keep_epoch
        self.scores: list[Score] = []
        self.best: Kept | None = None

    def forward(self, features: Tensor) -> Tensor:
        """Give logits [num_heads, n, num_classes] of features [n, dim]."""
        logits = nn.functional.linear(features, torch.cat([*self.weights]), torch.cat([*self.biases]))
        return logits.view(len(features), len(self.lrs), -1).transpose(0, 1)

    def losses(self, features: Tensor, labels: Tensor) -> Tensor:
        """Give the mean cross-entropy of each head [num_heads] on features [n, dim] with labels [n]."""
        logits = self(features)
        wanted = labels.expand(len(self.lrs), -1)
        return nn.functional.cross_entropy(logits.permute(1, 2, 0), wanted.T, reduction="none").mean(0)

    def training_step(self, batch: Any, moment: Moment) -> StepOutput:
        """Sum the heads' losses: each head's gradient is that of its own loss alone."""
        losses = self.losses(*batch)
        # A head that diverges must not stop the others: its loss is left out of the sum.
        return StepOutput(loss=torch.where(torch.isfinite(losses), losses, 0.0).sum())

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Give each head its learning rate, as a factor on a run's learning rate of 1."""
        return [
            {"params": [weight, bias], "weight_decay": weight_decay, "lr_scale": lr}
            for weight, bias, lr in zip(self.weights, self.biases, self.lrs, strict=True)
        ]

    @torch.no_grad()
    def after_epoch(self, moment: Moment) -> None:
        """Measure every head and keep the best so far."""
        epoch = moment.epoch + 1
        if self.watched is None:
            if epoch == self.keep_epoch:
                self._keep(Score(lr=self.lrs[0], epoch=epoch, accuracy=float("nan"), loss=float("nan")), 0)
            return
        for head, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            score = self._measure(self.watched, weight, bias, self.lrs[head], epoch)
            self.scores.append(score)
            if np.isfinite(score.loss) and (self.best is None or score.order > self.best.score.order):
                self._keep(score, head)

    def _measure(self, data: LabelledFeatures, weight: Tensor, bias: Tensor, lr: float, epoch: int) -> Score:
        logits = nn.functional.linear(data.features, weight, bias)
        accuracy = accuracies(Answers.from_scores(logits, data.labels))[self.metric]
        return Score(
            lr=lr, epoch=epoch, accuracy=accuracy, loss=nn.functional.cross_entropy(logits, data.labels).item()
        )

    def _keep(self, score: Score, head: int) -> None:
        self.best = Kept(
            score=score, weight=self.weights[head].detach().clone(), bias=self.biases[head].detach().clone()
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureBatches:
    """Shuffled batches of (features [b, dim], labels [b]); the order depends on the seed and the epoch alone."""

    data: LabelledFeatures
    batch_size: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches; the last may be smaller, every row is used once an epoch."""
        return -(-len(self.data) // self.batch_size)

    def __call__(self, epoch: int, skip_steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of ``epoch`` from number ``skip_steps`` on."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.data))
        rows = torch.from_numpy(order).to(self.data.labels.device)
        for batch in torch.split(rows, self.batch_size)[skip_steps:]:
            yield self.data.features[batch], self.data.labels[batch]

    def close(self) -> None:
        """Do nothing: no process works for these batches."""
