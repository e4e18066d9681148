"""Semi-supervised learning: a few labels, and unlabelled images of the same classes."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from lightning_fabric import Fabric

from simcore.errors import UsageError
from simcore.settings import setting
from simcore.tasks._pseudo_labels import Alignment
from simcore.tasks._semi_models import FixMatch, FlexMatch, MixMatch, ReMixMatch, SemiModel
from simcore.tasks._semi_problem import Problem
from simcore.tasks._semi_task import SemiTask

__all__ = ["SemiSupervised"]

METHODS = ("mixmatch", "remixmatch", "fixmatch", "flexmatch")
PUBLISHED_WEIGHT = {"mixmatch": 75.0, "remixmatch": 1.5, "fixmatch": 1.0, "flexmatch": 1.0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SemiSupervised(SemiTask):
    """MixMatch, ReMixMatch, FixMatch or FlexMatch from a pretrained backbone (Kim et al. 2023, Table 15).

    The train images beyond the label budget are the unlabelled ones; ``unlabelled`` adds more. Recipe as published:
    a tenth of the labels, 16,384 steps of 256 labelled and 256 unlabelled images, SGD with 0.03. The loop's cosine
    takes the place of a step schedule that would never step in so few epochs.
    """

    method: str = setting("mixmatch", "how unlabelled images are learnt from", choices=METHODS)
    temperature: float = setting(0.5, "guesses are sharpened with this; 1 leaves them, towards 0 they get hard")
    mixup_alpha: float = setting(0.75, "mixmatch, remixmatch: both parameters of mixup's Beta distribution")
    num_guesses: int = setting(2, "mixmatch: weak views that a guess is averaged over; remixmatch: strong views")
    unlabelled_weight: float | None = setting(
        None, "weight of the unlabelled loss (default: mixmatch 75, remixmatch 1.5, both rising linearly; else 1)"
    )
    anchor_weight: float = setting(0.5, "remixmatch: weight of a strong view that is not mixed, rising linearly")
    rotation_weight: float = setting(0.0, "remixmatch: weight of telling rotations apart (paper 0.5, published 0)")
    threshold: float = setting(0.95, "fixmatch, flexmatch: least confidence of a guess that counts")
    hard_labels: bool = setting(False, "fixmatch, flexmatch: the guessed class as target, not sharpened guesses")
    warm_up: bool = setting(True, "flexmatch: lower thresholds while most images have had no confident guess")
    align: bool = setting(False, "fixmatch, flexmatch: align guesses to the shares of the labelled classes first")
    alignment_decay: float = setting(0.999, "remixmatch, --align: of the mean guess a step; a short run needs less")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("temperature", "mixup_alpha"):
            if not getattr(self, name) > 0:
                raise UsageError(f"--{name.replace('_', '-')} is {getattr(self, name):g}, but must be above 0")
        if self.num_guesses < 1:
            raise UsageError(f"--num-guesses is {self.num_guesses}, but must be at least 1")
        self.check_range(0, 1, "threshold", "alignment_decay")
        self.check_range(0, math.inf, "unlabelled_weight", "anchor_weight", "rotation_weight")

    @property
    def num_views(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Give how many (weak, strong) views of a labelled and of an unlabelled image the method takes."""
        return {
            "mixmatch": ((1, 0), (self.num_guesses, 0)),
            "remixmatch": ((0, 1), (1, self.num_guesses)),
        }.get(self.method, ((1, 0), (1, 1)))

    def build(self, problem: Problem, fabric: Fabric) -> SemiModel:
        """Make the method's model."""
        basis, weight = problem.basis(), self.unlabelled_weight
        align = Alignment(problem.shares, self.alignment_decay)
        weight = PUBLISHED_WEIGHT[self.method] if weight is None else weight
        if self.method == "mixmatch":
            return MixMatch(basis, temperature=self.temperature, alpha=self.mixup_alpha, weight=weight)
        if self.method == "remixmatch":
            return ReMixMatch(
                basis,
                temperature=self.temperature,
                alpha=self.mixup_alpha,
                weight=weight,
                anchor_weight=self.anchor_weight,
                rotation_weight=self.rotation_weight,
                align=align,
            )
        settings: dict[str, Any] = {
            "weight": weight,
            "threshold": self.threshold,
            "temperature": self.temperature,
            "hard_labels": self.hard_labels,
            "align": align if self.align else None,
        }
        if self.method == "fixmatch":
            return FixMatch(basis, **settings)
        return FlexMatch(basis, num_unlabelled=len(problem.unlabelled), warm_up=self.warm_up, **settings)
