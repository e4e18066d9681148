"""What the loop trains on labelled and unlabelled images of the same classes: one class a method."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from simcore.artifacts.files import fingerprint
from simcore.tasks._mixup import mixup
from simcore.tasks._pseudo_labels import (
    Alignment,
    ClassThresholds,
    confident,
    guess,
    hardened,
    sharpen,
    statistics_kept,
)
from simcore.tasks._ramps import linear_ramp
from simcore.tasks._semi_batches import SemiBatch
from simcore.tasks._semi_losses import rotated, soft_cross_entropy, squared_difference
from simcore.tasks._supervised import Network, fresh_head
from simcore.training.ema import Ema
from simcore.training.gather import world
from simcore.training.trainable import Moment, StepOutput, Trainable


@dataclasses.dataclass(frozen=True, kw_only=True)
class Basis:
    """What every model is made from: the network, its width, the run's seed, and the decay of averaged weights."""

    network: Network
    dim: int
    num_classes: int
    seed: int
    ema_decay: float | None = None


class SemiModel(Trainable):
    """A network that learns from a :class:`SemiBatch`; with an ``ema_decay`` its averaged copy is what is measured."""

    def __init__(self, basis: Basis) -> None:
        super().__init__()
        self.network = basis.network
        self.seed, self.num_classes, self.ema_decay = basis.seed, basis.num_classes, basis.ema_decay
        self.ema = None if basis.ema_decay is None else Ema(basis.network)

    @abstractmethod
    def training_step(self, batch: Any, moment: Moment) -> StepOutput:
        """Give the loss of one :class:`SemiBatch`."""

    def after_step(self, moment: Moment) -> None:
        """Let the averaged copy follow."""
        if self.ema is not None and self.ema_decay is not None:
            self.ema.update(self.network, self.ema_decay)

    @property
    def chosen(self) -> Network:
        """The averaged network where there is one, else the trained one."""
        if self.ema is None:
            return self.network
        averaged = self.ema.module
        assert isinstance(averaged, Network)
        return averaged

    def logits(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Classify several batches of images in one pass, so that they share batch statistics."""
        logits: Tensor = self.network(torch.cat(list(parts)))
        return list(torch.split(logits, [len(part) for part in parts]))

    def one_hot(self, labels: Tensor) -> Tensor:
        """Turn labels int64 [n] into targets float32 [n, num_classes]."""
        return F.one_hot(labels, self.num_classes).float()

    def generator(self, moment: Moment) -> torch.Generator:
        """Give the CPU generator of a step's own draws: of the seed, the step and the process alone."""
        drawn = fingerprint("semi", self.seed, moment.step, world()[0])
        return torch.Generator().manual_seed(int(drawn, 16) % 2**63)


class MixMatch(SemiModel):
    """Berthelot et al. 2019: sharpened guesses averaged over the weak views, and mixup of everything with everything.

    Args:
        temperature: of sharpening.
        alpha: of mixup's Beta distribution.
        weight: of the unlabelled loss at the end; it grows linearly over the whole run.
    """

    def __init__(self, basis: Basis, *, temperature: float, alpha: float, weight: float) -> None:
        super().__init__(basis)
        self.temperature, self.alpha, self.weight = temperature, alpha, weight

    def training_step(self, batch: SemiBatch, moment: Moment) -> StepOutput:
        """Give equation 5 of the paper."""
        with torch.no_grad(), statistics_kept(self.network):
            targets = sharpen(guess(self.logits(batch.unlabelled)), self.temperature)
        images = torch.cat([*batch.labelled, *batch.unlabelled])
        goals = torch.cat([self.one_hot(batch.labels)] * len(batch.labelled) + [targets] * len(batch.unlabelled))
        mixed, goals = mixup(images, goals, self.alpha, self.generator(moment), at_least_half=True)
        logits, num = self.network(mixed), len(batch.labels) * len(batch.labelled)
        supervised = soft_cross_entropy(logits[:num], goals[:num])
        consistency = squared_difference(logits[num:], goals[num:])
        weight = self.weight * linear_ramp(moment.step, moment.num_steps)
        return _output(supervised, weight * consistency)


class ReMixMatch(SemiModel):
    """Berthelot et al. 2020: aligned guesses on the weak view are the targets of several strong ones.

    Args:
        temperature, alpha: as in MixMatch.
        weight: of the mixed unlabelled views; grows linearly over the run.
        anchor_weight: of the first strong view, not mixed; grows likewise.
        rotation_weight: of telling by how many quarter turns that view was rotated; 0 for no such head.
        align: aligns the distribution of guesses.
    """

    def __init__(
        self,
        basis: Basis,
        *,
        temperature: float,
        alpha: float,
        weight: float,
        anchor_weight: float,
        rotation_weight: float,
        align: Alignment,
    ) -> None:
        super().__init__(basis)
        self.temperature, self.alpha = temperature, alpha
        self.weight, self.anchor_weight, self.rotation_weight = weight, anchor_weight, rotation_weight
        self.align = align
        self.rotation_head = fresh_head(basis.dim, 4, basis.seed + 1) if rotation_weight > 0 else None

    def training_step(self, batch: SemiBatch, moment: Moment) -> StepOutput:
        """Give the four terms of the paper's algorithm 1; of the unlabelled views the first is the weak one."""
        weak, *strong = batch.unlabelled
        with torch.no_grad(), statistics_kept(self.network):
            guesses = guess([self.network(weak)])
            targets = sharpen(self.align(guesses), self.temperature)
        images = torch.cat([*batch.labelled, *strong, weak])
        goals = torch.cat([self.one_hot(batch.labels)] * len(batch.labelled) + [targets] * len(batch.unlabelled))
        generator = self.generator(moment)
        mixed, goals = mixup(images, goals, self.alpha, generator, at_least_half=True)
        logits, anchor = self.logits([mixed, strong[0]])
        num = len(batch.labels) * len(batch.labelled)
        ramp = linear_ramp(moment.step, moment.num_steps)
        unsupervised = self.weight * ramp * soft_cross_entropy(logits[num:], goals[num:])
        unsupervised = unsupervised + self.anchor_weight * ramp * soft_cross_entropy(anchor, targets)
        if self.rotation_head is not None:
            unsupervised = unsupervised + self.rotation_weight * self._rotation_loss(strong[0], generator)
        return _output(soft_cross_entropy(logits[:num], goals[:num]), unsupervised)

    def _rotation_loss(self, images: Tensor, generator: torch.Generator) -> Tensor:
        assert self.rotation_head is not None
        quarters = torch.randint(4, (len(images),), generator=generator).to(images.device)
        features = self.network.backbone(rotated(images, quarters)).flatten(1)
        return F.cross_entropy(self.rotation_head(features).float(), quarters)


class FixMatch(SemiModel):
    """Sohn et al. 2020: a confident guess on the weak view is the target of the strong one.

    Args:
        weight: of the unlabelled loss.
        threshold: least confidence of a guess.
        temperature: of sharpening, where guesses are not ``hard_labels``.
        align: aligns the distribution of guesses first, where given.
    """

    def __init__(
        self,
        basis: Basis,
        *,
        weight: float,
        threshold: float,
        temperature: float,
        hard_labels: bool,
        align: Alignment | None = None,
    ) -> None:
        super().__init__(basis)
        self.weight, self.threshold = weight, threshold
        self.temperature, self.hard_labels = temperature, hard_labels
        self.align = align

    def training_step(self, batch: SemiBatch, moment: Moment) -> StepOutput:
        """Give equations 3 and 4 of the paper."""
        weak, strong = batch.unlabelled
        known, seen, asked = self.logits([torch.cat(list(batch.labelled)), weak, strong])
        guesses = guess([seen])
        if self.align is not None:
            guesses = self.align(guesses)
        mask = self.mask(guesses, batch.rows)
        targets = hardened(guesses) if self.hard_labels else sharpen(guesses, self.temperature)
        supervised = F.cross_entropy(known.float(), batch.labels.repeat(len(batch.labelled)))
        return _output(supervised, self.weight * soft_cross_entropy(asked, targets, mask), used=mask.mean())

    def mask(self, guesses: Tensor, rows: Tensor) -> Tensor:
        """Say which guesses [n, num_classes] count, float32 [n]."""
        return confident(guesses, self.threshold)


class FlexMatch(FixMatch):
    """Zhang et al. 2021: FixMatch with a threshold for each class that follows how well the class is learnt.

    Args:
        num_unlabelled: images whose last confident guess is remembered.
        warm_up: hold thresholds down while most images were never guessed with confidence.
        settings: those of FixMatch.
    """

    def __init__(self, basis: Basis, *, num_unlabelled: int, warm_up: bool, **settings: Any) -> None:
        super().__init__(basis, **settings)
        self.thresholds = ClassThresholds(basis.num_classes, num_unlabelled, threshold=self.threshold, warm_up=warm_up)

    def mask(self, guesses: Tensor, rows: Tensor) -> Tensor:
        """Compare with the thresholds as they stood before this batch, then take it into account."""
        mask = confident(guesses, self.thresholds())
        self.thresholds.note(rows, guesses)
        return mask


def _output(supervised: Tensor, unsupervised: Tensor, **logs: Tensor) -> StepOutput:
    parts = {"supervised": supervised.detach(), "unsupervised": unsupervised.detach()}
    return StepOutput(loss=supervised + unsupervised, logs={**parts, **logs})
