"""What is done to features before a linear classifier, and how that is folded into its weights afterwards."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from simcore.tasks._nearest import normalised

SCALINGS = ("none", "unit", "standard")
EPSILON = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Scaling:
    """One of ``SCALINGS``: features as they are, rows of length 1, or each dimension to mean 0 and variance 1.

    The last is what batch normalisation without affine weights does in the linear evaluation of MAE (He et al. 2022,
    appendix A), with the statistics of the training features.

    Attributes:
        mean, std: of each dimension of the training features, float32 [dim]; only ``standard`` uses them.
    """

    kind: str
    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, kind: str, features: Tensor) -> Scaling:
        """Take the statistics of training features [n, dim]."""
        variance, mean = torch.var_mean(features, dim=0, correction=0)
        return cls(kind=kind, mean=mean, std=(variance + EPSILON).sqrt())

    def __call__(self, features: Tensor) -> Tensor:
        """Scale features [n, dim]."""
        if self.kind == "unit":
            return normalised(features)
        return (features - self.mean) / self.std if self.kind == "standard" else features

    def fold(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Give weight [C, dim] and bias [C] that do to features what the given ones do to standardised features."""
        if self.kind != "standard":
            return weight, bias
        folded = weight / self.std
        return folded, bias - folded @ self.mean
