"""Accuracy of a classifier: top-1, top-5 and the mean per class, with intervals by bootstrap.

A class that no test image has is *absent*: it takes no part in the mean per class and is reported by name.
The published code divides by all classes instead; that figure carries its own name, ``mean_per_class_published``.
All accuracies are in percent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy

from simcore.errors import SimcoreError

TOP_K = (1, 5)
NEVER = 2**31 - 1  # the rank of a class that could not be answered


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What a classifier said about n test images.

    Attributes:
        targets: true class of each image, int64 [n], in 0 … num_classes - 1.
        predicted: class with the best score, int64 [n]; ``num_classes`` where no class had a finite score.
        ranks: place of the true class, int64 [n], 0 for a right answer; ``NEVER`` where it had no finite score.
        num_classes: how many classes there were to choose from.
    """

    targets: Tensor
    predicted: Tensor
    ranks: Tensor
    num_classes: int

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def absent(self) -> list[int]:
        """Classes that no test image has."""
        support = torch.bincount(self.targets, minlength=self.num_classes)
        return torch.nonzero(support == 0)[:, 0].tolist()

    @classmethod
    def from_scores(cls, scores: Tensor, targets: Tensor) -> Answers:
        """Rank the true class among scores [n, num_classes]; equal scores go to the lower class number first.

        A class whose score is not finite (no vote, a head that diverged) is never an answer.
        """
        scores = torch.where(torch.isfinite(scores), scores, -torch.inf)
        num_classes = scores.shape[1]
        right = scores.gather(1, targets[:, None])
        before = torch.arange(num_classes, device=scores.device) < targets[:, None]
        ranks = (scores > right).sum(1) + ((scores == right) & before).sum(1)
        best = scores.max(1)
        return cls(
            targets=targets,
            predicted=torch.where(torch.isfinite(best.values), scores.argmax(1), num_classes),
            ranks=torch.where(torch.isfinite(right[:, 0]), ranks, NEVER),
            num_classes=num_classes,
        )

    @classmethod
    def from_labels(cls, predicted: npt.ArrayLike, targets: npt.ArrayLike, *, num_classes: int) -> Answers:
        """Take predicted class numbers [n] alone; a wrong answer then counts as wrong at every k."""
        said = torch.as_tensor(np.asarray(predicted, np.int64))
        true = torch.as_tensor(np.asarray(targets, np.int64))
        return cls(
            targets=true,
            predicted=said,
            ranks=torch.where(said == true, 0, NEVER),
            num_classes=num_classes,
        )

    @classmethod
    def join(cls, parts: Iterable[Answers]) -> Answers:
        """Put the answers of several batches into one, in order."""
        parts = list(parts)
        return cls(
            targets=torch.cat([part.targets for part in parts]),
            predicted=torch.cat([part.predicted for part in parts]),
            ranks=torch.cat([part.ranks for part in parts]),
            num_classes=parts[0].num_classes,
        )


def accuracies(answers: Answers) -> dict[str, float]:
    """Give ``top1``, ``top5``, ``mean_per_class`` and ``mean_per_class_published`` in percent.

    ``top5`` is 100 by definition where there are at most five classes with a score.
    """
    if not len(answers):
        raise SimcoreError("no test image to measure accuracy on")
    values = {f"top{k}": 100.0 * (answers.ranks < k).double().mean().item() for k in TOP_K}
    right, present = _right_per_class(answers)
    values["mean_per_class"] = 100.0 * right[present].mean().item()
    values["mean_per_class_published"] = 100.0 * right.mean().item()
    return values


def _right_per_class(answers: Answers) -> tuple[Tensor, Tensor]:
    """Share of right answers per class, float64 [num_classes] (0 where absent), and which classes are present."""
    # One more class than there are stands for "no answer"; torchmetrics refuses labels out of range.
    shares = multiclass_accuracy(
        answers.predicted, answers.targets, num_classes=answers.num_classes + 1, average="none", validate_args=False
    )
    support = torch.bincount(answers.targets, minlength=answers.num_classes)
    return shares[: answers.num_classes].double(), support > 0


def per_class(answers: Answers, classes: Sequence[str]) -> dict[str, dict[str, float]]:
    """Give each present class its ``accuracy`` in percent and its number of test ``images``."""
    right, present = _right_per_class(answers)
    support = torch.bincount(answers.targets, minlength=answers.num_classes)
    return {
        classes[c]: {"accuracy": 100.0 * right[c].item(), "images": int(support[c])}
        for c in torch.nonzero(present)[:, 0].tolist()
    }


def intervals(
    answers: Answers, *, seed: int, num_draws: int = 1000, level: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap over the test images (Efron 1979): metric -> (low, high) in percent.

    It tells how much the figure hangs on which test images there are, not how much training varies with the seed.
    """
    generator = np.random.default_rng([seed, 0xB007])
    targets = answers.targets.cpu().numpy()
    ranks = answers.ranks.cpu().numpy()
    draws: dict[str, list[float]] = {"top1": [], "top5": [], "mean_per_class": []}
    for _ in range(num_draws):
        rows = generator.integers(0, len(targets), len(targets))
        for k in TOP_K:
            draws[f"top{k}"].append(float((ranks[rows] < k).mean()))
        support = np.bincount(targets[rows], minlength=answers.num_classes)
        hits = np.bincount(targets[rows], weights=ranks[rows] == 0, minlength=answers.num_classes)
        draws["mean_per_class"].append(float((hits[support > 0] / support[support > 0]).mean()))
    edges = [50.0 * (1 - level), 100.0 - 50.0 * (1 - level)]
    return {name: _pair(100.0 * np.percentile(values, edges)) for name, values in draws.items()}


def _pair(edges: npt.NDArray[np.float64]) -> tuple[float, float]:
    return float(edges[0]), float(edges[1])


def describe(answers: Answers, classes: Sequence[str], *, seed: int) -> dict[str, Any]:
    """Collect what a report tells beside the metrics: intervals and accuracy per class."""
    spread = {name: list(pair) for name, pair in intervals(answers, seed=seed).items()}
    return {"interval_95": spread, "per_class": per_class(answers, classes)}
