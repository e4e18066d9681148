"""From what a network says of unlabelled images to targets that it can be trained on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from simcore.training.gather import gather_detached, sum_over_processes, world


def sharpen(probabilities: Tensor, temperature: float) -> Tensor:
    """Raise probabilities [n, num_classes] to the power 1 / temperature, and scale rows to sum 1 again.

    Berthelot et al. 2019 (MixMatch), equation 7.
    """
    return (probabilities.clamp(min=1e-30).log() / temperature).softmax(1)


def guess(logits: Sequence[Tensor]) -> Tensor:
    """Average what is said of several views, logits [n, num_classes] each (MixMatch, equation 6)."""
    return torch.stack([view.detach().float().softmax(1) for view in logits]).mean(0)


@contextlib.contextmanager
def statistics_kept(network: nn.Module) -> Iterator[None]:
    """Leave the running statistics of batch normalisation as they are during a pass that is only looked at."""
    layers = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    before = [(layer.momentum, layer.num_batches_tracked) for layer in layers]
    try:
        for layer in layers:
            layer.momentum, layer.num_batches_tracked = 0.0, None
        yield
    finally:
        for layer, (momentum, count) in zip(layers, before, strict=True):
            layer.momentum, layer.num_batches_tracked = momentum, count


class Alignment(nn.Module):
    """Distribution alignment: guesses scaled so that on average they have the classes' known shares.

    ``guess · known / mean guess``, rows scaled to sum 1 (Berthelot et al. 2020, ReMixMatch, section 3.1). The mean
    guess is a moving average, and the plain mean of all batches until these are ``1 / (1 - decay)``: otherwise the
    first batch would weigh most for as long, when the guesses are the worst.

    Args:
        shares: share of each class, float [num_classes]; those of the labels in use, since others are not known.
        decay: of the moving average, per step.
    """

    shares: Tensor
    mean: Tensor
    num_batches: Tensor

    def __init__(self, shares: Tensor, decay: float = 0.999) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("shares", shares.float())
        self.register_buffer("mean", torch.zeros_like(shares, dtype=torch.float32))
        self.register_buffer("num_batches", torch.zeros((), dtype=torch.float32))

    def forward(self, probabilities: Tensor) -> Tensor:
        """Take guesses [n, num_classes] into the average, and align them."""
        batch = sum_over_processes(probabilities.mean(0)) / world()[1]
        self.num_batches += 1.0
        self.mean.lerp_(batch, self.num_batches.reciprocal().clamp(min=1.0 - self.decay))
        aligned = probabilities * self.shares / self.mean.clamp(min=1e-6)
        return aligned / aligned.sum(1, keepdim=True).clamp(min=1e-12)


class ClassThresholds(nn.Module):
    """FlexMatch's thresholds: lower for classes that are learnt less well (Zhang et al. 2021, section 3).

    How well a class is learnt is how many unlabelled images were last said to be of it with a confidence of at least
    ``threshold`` (equation 5), relative to the best learnt class or, with ``warm_up``, to the images never said to be
    anything where these are more (equations 6 and 11). The map is the convex x / (2 - x) (section 3.4).

    Args:
        num_classes: of the task.
        num_images: unlabelled images; what was last said of each is remembered, int64 [num_images], -1 for nothing.
        threshold: that of a class learnt best, in (0, 1).
    """

    said: Tensor

    def __init__(self, num_classes: int, num_images: int, *, threshold: float, warm_up: bool = True) -> None:
        super().__init__()
        self.num_classes, self.threshold, self.warm_up = num_classes, threshold, warm_up
        self.register_buffer("said", torch.full((num_images,), -1, dtype=torch.int64))

    def forward(self) -> Tensor:
        """Give the present threshold of each class, float32 [num_classes]."""
        counts = (self.said + 1).bincount(minlength=self.num_classes + 1)
        nothing, learnt = counts[0], counts[1:]
        most = torch.maximum(learnt.max(), nothing) if self.warm_up else learnt.max()
        share = learnt / most.clamp(min=1)
        return self.threshold * share / (2.0 - share)

    @torch.no_grad()
    def note(self, rows: Tensor, probabilities: Tensor) -> None:
        """Remember the confident guesses [n, num_classes] on images ``rows``, int64 [n], of all processes."""
        confidence, label = probabilities.max(1)
        sure = torch.where(confidence >= self.threshold, label, -1)
        rows, sure = gather_detached(rows), gather_detached(sure)
        rows, sure = rows[sure >= 0], sure[sure >= 0]
        self.said[rows] = sure


def confident(probabilities: Tensor, threshold: float | Tensor) -> Tensor:
    """Say which guesses [n, num_classes] count: float32 [n], 1 where the best class reaches its threshold.

    ``threshold`` is one for all, or one for each class [num_classes].
    """
    confidence, label = probabilities.max(1)
    least = threshold[label] if isinstance(threshold, Tensor) else threshold
    return (confidence >= least).float()


def hardened(probabilities: Tensor) -> Tensor:
    """Put all weight [n, num_classes] on the best class of each row."""
    return nn.functional.one_hot(probabilities.argmax(1), probabilities.shape[1]).to(probabilities.dtype)
