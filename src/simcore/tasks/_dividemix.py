"""DivideMix: two networks that tell each other which labels to believe (Li et al. 2020, ICLR)."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional as F

from simcore.artifacts.files import fingerprint
from simcore.tasks._mixup import mixup
from simcore.tasks._noisy_batches import Clean, NoisyBatch
from simcore.tasks._pseudo_labels import guess, sharpen, statistics_kept
from simcore.tasks._ramps import linear_ramp
from simcore.tasks._semi_losses import soft_cross_entropy, squared_difference
from simcore.tasks._supervised import Network
from simcore.tasks._two_networks import NoisyModel
from simcore.training.gather import world
from simcore.training.trainable import Moment, StepOutput

Float = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DivideMixSettings:
    """The numbers of DivideMix.

    Attributes:
        warm_up: epochs of plain cross-entropy before the first division.
        threshold: a label is believed where its probability of being clean is above this.
        num_losses: epochs that an image's loss is averaged over.
        temperature, alpha: of sharpening and of mixup.
        weight, ramp: of the unlabelled loss, and the epochs over which it grows to that.
        confidence_penalty: weight of the negative entropy in the warm-up (the paper's, against asymmetric noise).
        seed: of all draws.
    """

    warm_up: int
    threshold: float
    num_losses: int
    temperature: float
    alpha: float
    weight: float
    ramp: int
    confidence_penalty: float
    seed: int


class DivideMix(NoisyModel):
    """After a warm-up, each network takes as labelled what the other one's losses call clean, and mixes the rest in.

    Both networks learn in the same step; in the paper's algorithm the second waits for the first one's epoch.
    """

    losses: Tensor
    probability: Tensor

    def __init__(
        self, networks: Sequence[Network], num_images: int, *, num_classes: int, settings: DivideMixSettings
    ) -> None:
        super().__init__(networks, num_images)
        self.num_classes, self.settings = num_classes, settings
        self.register_buffer("losses", torch.full((2, settings.num_losses, num_images), torch.nan))
        self.register_buffer("probability", torch.ones(2, num_images))

    def note_losses(self, losses: Tensor) -> None:
        """Take each network's loss on every image, float [2, num_images], and divide anew; NaN for unreadable ones."""
        newest = torch.stack([normalised(row) for row in losses]).to(self.losses)
        self.losses.copy_(torch.cat([self.losses[:, 1:], newest[:, None]], 1))
        means = self.losses.double().nanmean(1).cpu().numpy()
        clean = np.stack([clean_probability(row, seed=self.settings.seed) for row in means])
        self.probability.copy_(torch.from_numpy(clean))

    def division(self, epoch: int) -> Clean | None:
        """Say for each network which labels the other one calls clean, bool [2, num_images]; None while warming up."""
        return None if epoch < self.settings.warm_up else self.held_clean()

    def held_clean(self) -> Clean:
        """Say the same at any time; a network is given all where nothing is above the threshold."""
        clean = (self.probability.flip(0) > self.settings.threshold).cpu().numpy()
        return np.asarray(clean | ~clean.any(1, keepdims=True), np.bool_)

    def training_step(self, batch: NoisyBatch, moment: Moment) -> StepOutput:
        """Warm up, or give both networks' losses of equation 12."""
        if len(batch.sizes) == 1:
            logits = [network(batch.views[0]) for network in self.networks]
            surely = self.settings.confidence_penalty
            return StepOutput(loss=torch.stack([warm_up_loss(said, batch.labels, surely) for said in logits]).sum())
        labelled, unlabelled, labelled_too, unlabelled_too = batch.parts()
        first = self._loss(0, labelled, unlabelled, moment)
        second = self._loss(1, labelled_too, unlabelled_too, moment)
        supervised, unsupervised, penalty = (one + other for one, other in zip(first, second, strict=True))
        weight = self.unlabelled_weight(moment)
        logs = {"supervised": supervised.detach(), "unsupervised": unsupervised.detach(), "penalty": penalty.detach()}
        return StepOutput(loss=supervised + weight * unsupervised + penalty, logs=logs)

    def unlabelled_weight(self, moment: Moment) -> float:
        """Give the weight of the unlabelled loss: 0 after the warm-up, then rising linearly."""
        since = moment.step / moment.steps_per_epoch - self.settings.warm_up
        return self.settings.weight * linear_ramp(since, self.settings.ramp)

    def _loss(self, number: int, labelled: NoisyBatch, unlabelled: NoisyBatch, moment: Moment) -> list[Tensor]:
        """Give the labelled loss, the unlabelled loss and the penalty of one network."""
        own, peer = self.all_networks[number], self.all_networks[1 - number]
        images = torch.cat([*labelled.views, *unlabelled.views])
        if not len(images):
            return [own.head.bias.sum() * 0.0] * 3
        with torch.no_grad(), statistics_kept(self):
            believed = self.probability[1 - number, labelled.rows]
            goals = self._goals(own(images), peer, labelled, unlabelled, believed)
        generator = self._generator(moment, number)
        mixed, goals = mixup(images, goals, self.settings.alpha, generator, at_least_half=True)
        logits, num = own(mixed), len(labelled) * len(labelled.views)
        nothing = logits.sum() * 0.0
        return [
            soft_cross_entropy(logits[:num], goals[:num]) if num else nothing,
            squared_difference(logits[num:], goals[num:]) if num < len(images) else nothing,
            prior_penalty(logits),
        ]

    def _goals(
        self, said: Tensor, peer: Network, labelled: NoisyBatch, unlabelled: NoisyBatch, believed: Tensor
    ) -> Tensor:
        """Co-refine the labelled and co-guess the unlabelled images; targets in the order of the images."""
        settings, num, num_views = self.settings, len(labelled), len(labelled.views)
        known, other = said[: num * num_views], said[num * num_views :]
        one_hot = F.one_hot(labelled.labels, self.num_classes).float()
        refined = refine(one_hot, guess(torch.split(known, num)) if num else one_hot, believed, settings.temperature)
        if not len(unlabelled):
            return refined.repeat(num_views, 1)
        asked = torch.cat([other, peer(torch.cat(list(unlabelled.views)))])
        guessed = sharpen(guess(torch.split(asked, len(unlabelled))), settings.temperature)
        return torch.cat([refined.repeat(num_views, 1), guessed.repeat(num_views, 1)])

    def _generator(self, moment: Moment, number: int) -> torch.Generator:
        drawn = fingerprint("dividemix", self.settings.seed, moment.step, world()[0], number)
        return torch.Generator().manual_seed(int(drawn, 16) % 2**63)


def normalised(losses: Tensor) -> Tensor:
    """Move losses [n] to the range from 0 to 1; all 0 where they are equal, NaN where they are."""
    known = losses[losses.isfinite()]
    if not len(known):
        return losses
    return (losses - known.min()) / (known.max() - known.min()).clamp(min=1e-12)


def clean_probability(losses: npt.ArrayLike, *, seed: int) -> Float:
    """Give each image's probability of having a true label: that of belonging to the component of small losses.

    Two Gaussians are fitted to the losses by expectation maximisation (Li et al. 2020, section 3.1), with the
    published ``max_iter=10, tol=1e-2, reg_covar=5e-4``.

    Args:
        losses: normalised, [n]; images whose loss is NaN get 0.
        seed: of the fit's start.

    Returns:
        float64 [n]; 1 for all where the losses are equal.
    """
    values = np.asarray(losses, np.float64)
    known = np.isfinite(values)
    column, found = values[known].reshape(-1, 1), np.zeros(len(values))
    if len(np.unique(column)) < 2:
        found[known] = 1.0
        return found
    mixture = GaussianMixture(n_components=2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=seed)
    with threadpool_limits(1), warnings.catch_warnings():  # one thread: sums in one order
        warnings.simplefilter("ignore", ConvergenceWarning)  # ten rounds are what is published
        found[known] = mixture.fit(column).predict_proba(column)[:, mixture.means_.argmin()]
    return found


def refine(labels: Tensor, said: Tensor, believed: Tensor, temperature: float) -> Tensor:
    """Co-refine: ``w · label + (1 - w) · what the network says``, sharpened (equations 3 and 4).

    Args:
        labels: one-hot [n, num_classes].
        said: the network's guess, averaged over the views, [n, num_classes].
        believed: w, the probability of a true label by the other network's losses, [n].
    """
    weight = believed[:, None].to(said.dtype)
    return sharpen(weight * labels + (1.0 - weight) * said, temperature)


def prior_penalty(logits: Tensor) -> Tensor:
    """Hold the mean prediction of a batch, logits [n, num_classes], near uniform: Σ π log(π / mean) (equation 11)."""
    mean = logits.float().softmax(1).mean(0).clamp(min=1e-12)
    prior = 1.0 / logits.shape[1]
    return (prior * (prior / mean).log()).sum()


def warm_up_loss(logits: Tensor, labels: Tensor, confidence_penalty: float) -> Tensor:
    """Give cross-entropy and, weighted, the negative entropy of the predictions (equation 2)."""
    logs = logits.float().log_softmax(1)
    loss = F.nll_loss(logs, labels)
    return loss if not confidence_penalty else loss + confidence_penalty * (logs.exp() * logs).sum(1).mean()
