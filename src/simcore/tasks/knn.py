"""k-nearest-neighbour classification on frozen features."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from simcore.artifacts import Embeddings, Report
from simcore.errors import SimcoreWarning, UsageError
from simcore.settings import setting
from simcore.tasks._features import FeatureSets, LabelledFeatures, embedder_for, gather
from simcore.tasks._metrics import Answers, accuracies, intervals, per_class
from simcore.tasks._nearest import nearest, normalised
from simcore.tasks._task import Task

if TYPE_CHECKING:
    from simcore.embedding import Encoder
    from simcore.images import ImageSource

__all__ = ["KNN"]

VOTE_ROWS = 4_096


@dataclasses.dataclass(frozen=True, kw_only=True)
class KNN(Task):
    """Each test image takes a vote among its k most similar train images, weighted by exp(similarity / temperature).

    Features are L2-normalised backbone outputs, similarity is their cosine, the search is exact (Wu et al. 2018,
    §3.4; k of 20 and 200 as in the kNN evaluation of Kim et al. 2023, Table 7a). Metrics are named by the k asked
    for: ``top1_k20``, ``top5_k20``, ``mean_per_class_k20``. The seed is that of the bootstrap intervals alone.
    """

    k: tuple[int, ...] = setting((20, 200), "numbers of neighbours that vote; each gives its own figures")
    temperature: float = setting(0.07, "a neighbour's weight is exp(similarity / temperature)")
    batch_size: int = setting(64, "images embedded at a time; changes no figure")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.k or min(self.k) < 1:
            raise UsageError(f"--k is {self.k}, but must be one or more numbers of at least 1")
        if not self.temperature > 0:
            raise UsageError(f"--temperature is {self.temperature:g}, but must be above 0")

    @property
    def on_features(self) -> bool:
        """It works on frozen features alone."""
        return True

    def evaluate(
        self,
        encoder: Encoder | None,
        train: ImageSource | Embeddings,
        test: ImageSource | Embeddings,
        *,
        out: Path | None,
        quiet: bool,
    ) -> Report:
        """Classify the test images."""
        embedder = embedder_for(encoder, self, batch_size=self.batch_size, quiet=quiet)
        sets = gather(embedder, train, test, cache=None if out is None else out / "features")
        return self.measure(sets.on(self.device))

    def measure(self, sets: FeatureSets) -> Report:
        """Classify the test rows of features that are at hand."""
        metrics: dict[str, float] = {}
        spread: dict[str, list[float]] = {}
        by_k: dict[str, Any] = {}
        for k, (used, answers) in self.classify(sets.train, sets.test, len(sets.classes)).items():
            metrics |= {f"{name}_k{k}": value for name, value in accuracies(answers).items()}
            spread |= {f"{name}_k{k}": list(pair) for name, pair in intervals(answers, seed=self.seed).items()}
            by_k[str(k)] = {"k_used": used, "per_class": per_class(answers, sets.classes)}
        return self.report(metrics, {**sets.details, "interval_95": spread, "by_k": by_k}, sets.parents)

    def classify(
        self, train: LabelledFeatures, test: LabelledFeatures, num_classes: int
    ) -> dict[int, tuple[int, Answers]]:
        """Answer for every k: the k in use (at most the bank's rows) and what was said about the test rows."""
        used = {k: min(k, len(train)) for k in self.k}
        for k in self.k:
            if used[k] < k:
                warnings.warn(f"k = {k} clamped to {used[k]}, the number of train images", SimcoreWarning, stacklevel=3)
        similarity, rows = nearest(normalised(test.features), normalised(train.features), max(used.values()))
        # The few neighbours vote on the CPU, where scatter_add is deterministic.
        similarity, labels, targets = similarity.cpu(), train.labels[rows].cpu(), test.labels.cpu()
        return {
            k: (used[k], self._vote(similarity[:, : used[k]], labels[:, : used[k]], targets, num_classes))
            for k in self.k
        }

    def _vote(self, similarity: Tensor, labels: Tensor, targets: Tensor, num_classes: int) -> Answers:
        blocks = zip(*(torch.split(rows, VOTE_ROWS) for rows in (similarity, labels, targets)), strict=True)
        return Answers.join(
            Answers.from_scores(votes(near, classes, self.temperature, num_classes), true)
            for near, classes, true in blocks
        )


def votes(similarity: Tensor, labels: Tensor, temperature: float, num_classes: int) -> Tensor:
    """Sum exp(similarity / temperature) of the neighbours of each class; -inf for a class that has none.

    Each row is scaled by its largest weight, which changes no order and keeps small temperatures finite.

    Args:
        similarity: [n, k], the largest of a row first.
        labels: class of each neighbour, int64 [n, k].

    Returns:
        float64 [n, num_classes].
    """
    weights = ((similarity.double() - similarity[:, :1].double()) / temperature).exp()
    scores = torch.zeros(len(labels), num_classes, dtype=torch.float64).scatter_add_(1, labels, weights)
    voted = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, labels, True)
    return torch.where(voted, scores, -torch.inf)
