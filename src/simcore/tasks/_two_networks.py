"""Networks that learn from noisy labels: one that believes them, and two that choose for each other (Co-teaching)."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simcore.tasks._noisy_batches import NoisyBatch
from simcore.tasks._ramps import linear_ramp
from simcore.tasks._supervised import Network
from simcore.training.gather import gather_detached
from simcore.training.trainable import Moment, StepOutput, Trainable


class NoisyModel(Trainable):
    """One or two networks that learn from a :class:`NoisyBatch`; the first one is what is kept.

    Args:
        networks: start from the same backbone, with heads of their own.
        num_images: training images; which of them count as clean is remembered.
    """

    networks: nn.ModuleList

    def __init__(self, networks: Sequence[Network], num_images: int) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.num_images = num_images

    @abstractmethod
    def training_step(self, batch: Any, moment: Moment) -> StepOutput:
        """Give the loss of one :class:`NoisyBatch`, the sum of what each network has to learn."""

    @property
    def all_networks(self) -> list[Network]:
        """The networks, first the one that is kept."""
        return [network for network in self.networks if isinstance(network, Network)]

    def held_clean(self) -> npt.NDArray[np.bool_]:
        """Say which images each network was last given as clean, bool [num_networks, num_images]."""
        return np.ones((len(self.networks), self.num_images), np.bool_)


class Plain(NoisyModel):
    """Cross-entropy with the labels as they are: what the methods are compared with."""

    def training_step(self, batch: NoisyBatch, moment: Moment) -> StepOutput:
        """Give the mean cross-entropy."""
        logits = self.networks[0](batch.views[0])
        return StepOutput(loss=F.cross_entropy(logits.float(), batch.labels))


class CoTeaching(NoisyModel):
    """Han et al. 2018: each network learns from those images of a batch whose loss is small to the other one.

    Args:
        forget_rate: share of a batch that is left out in the end, in [0, 1); about the share of wrong labels.
        num_gradual: epochs over which that share is reached.
        exponent: the share reached is ``forget_rate ** exponent``.
    """

    kept: Tensor

    def __init__(
        self, networks: Sequence[Network], num_images: int, *, forget_rate: float, num_gradual: int, exponent: float
    ) -> None:
        super().__init__(networks, num_images)
        self.forget_rate, self.num_gradual, self.exponent = forget_rate, num_gradual, exponent
        self.register_buffer("kept", torch.zeros(2, num_images, dtype=torch.bool))

    def training_step(self, batch: NoisyBatch, moment: Moment) -> StepOutput:
        """Exchange the images of small loss and learn from them."""
        logits = [network(batch.views[0]) for network in self.networks]
        share = forgotten(moment.epoch, self.forget_rate, self.num_gradual, self.exponent)
        losses, chosen = exchanged_losses(logits, batch.labels, num_kept(len(batch), share))
        self._note(batch.rows, chosen)
        return StepOutput(loss=losses.sum(), logs={"forgotten": share})

    @torch.no_grad()
    def _note(self, rows: Tensor, chosen: Sequence[Tensor]) -> None:
        """Remember which images were chosen for each network, over all processes."""
        all_rows = gather_detached(rows)
        for network, picked in enumerate(chosen):
            mask = torch.zeros_like(rows).index_fill_(0, picked, 1)
            self.kept[network, all_rows] = gather_detached(mask).bool()

    def held_clean(self) -> npt.NDArray[np.bool_]:
        """Say which images each network learnt from when they were last seen, bool [2, num_images]."""
        return np.asarray(self.kept.cpu().numpy(), np.bool_)


def forgotten(epoch: int, forget_rate: float, num_gradual: int, exponent: float = 1.0) -> float:
    """Give the share R of a batch that is left out in an epoch, counted from 0.

    It grows linearly from 0 in the first epoch to ``forget_rate ** exponent`` in the ``num_gradual``-th and stays
    there: R(T) = τ min(T / T_k, 1) (Han et al. 2018, algorithm 1), with the steps of the published code.
    """
    return float(forget_rate**exponent * linear_ramp(epoch, max(1, num_gradual - 1)))


def num_kept(size: int, share: float) -> int:
    """Give the number of images that remain of a batch, ``int((1 - share) size)``, but at least one."""
    return max(1, math.floor((1.0 - share) * size + 1e-9))


def small_loss(losses: Tensor, num: int) -> Tensor:
    """Choose the ``num`` rows of smallest loss [n]; of equal ones those that come first."""
    return losses.detach().argsort(stable=True)[:num]


def exchanged_losses(logits: Sequence[Tensor], labels: Tensor, num: int) -> tuple[Tensor, list[Tensor]]:
    """Let each of two networks learn from what the other one finds easy (Han et al. 2018, algorithm 1, lines 5 to 7).

    Args:
        logits: of the two networks, [n, num_classes] each.
        labels: int64 [n].
        num: images that each chooses.

    Returns:
        Mean cross-entropy of each network on the rows chosen for it, [2], and those rows, int64 [num] each.
    """
    each = [F.cross_entropy(said.float(), labels, reduction="none") for said in logits]
    chosen = [small_loss(losses, num) for losses in reversed(each)]
    return torch.stack([losses[rows].mean() for losses, rows in zip(each, chosen, strict=True)]), chosen
