"""Which images to ask labels for: each acquisition is one function on features or probabilities.

All give distinct rows of what they choose from, int64, in the order in which they were chosen.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from simcore.errors import UsageError

Rows = npt.NDArray[np.int64]
BLOCK_ROWS = 4096


def random(num_rows: int, budget: int, generator: np.random.Generator) -> Rows:
    """Choose ``budget`` of ``num_rows`` rows, each set being as likely."""
    _check(num_rows, budget)
    return generator.choice(num_rows, budget, replace=False).astype(np.int64)


def entropy(probabilities: Tensor, budget: int) -> Rows:
    """Choose the rows that the network is least sure of: largest -Σ p log p; of equal ones the lower row first.

    Args:
        probabilities: [n, num_classes].
    """
    _check(len(probabilities), budget)
    unsure = torch.special.entr(probabilities.double()).sum(1)
    return _rows(unsure.argsort(descending=True, stable=True)[:budget])


def coreset(features: Tensor, labelled: Tensor, budget: int) -> Rows:
    """Choose the row farthest from all labelled and chosen ones, one after the other.

    Greedy k-center of Sener and Savarese 2018 (algorithm 1), by Euclidean distance; of equal ones the lower row.
    Needs memory for one distance a row beside blocks of ``BLOCK_ROWS``².

    Args:
        features: [n, dim].
        labelled: features of what has a label already, [m, dim], m at least 1.
    """
    _check(len(features), budget)
    if not len(labelled):
        raise UsageError("a core-set needs a labelled image that can be read")
    nearest = torch.cat([_nearest_squared(block, labelled) for block in torch.split(features, BLOCK_ROWS)])
    chosen = torch.empty(budget, dtype=torch.int64)
    for number in range(budget):
        row = int(nearest.argmax())
        chosen[number] = row
        blocks = torch.split(features, BLOCK_ROWS)
        to_row = torch.cat([(block - features[row]).square().sum(1) for block in blocks])
        nearest = torch.minimum(nearest, to_row)
        nearest[row] = -1.0
    return _rows(chosen)


def badge(probabilities: Tensor, features: Tensor, budget: int, generator: np.random.Generator) -> Rows:
    """Choose by k-means++ among gradient embeddings: unsure rows that differ from one another (Ash et al. 2020).

    A row's embedding is the gradient of the last layer for the class that it is taken for, the product
    ``(p - one_hot(argmax p)) ⊗ features`` of num_classes · dim numbers. It is never formed: of two such products,
    ``<a⊗h, b⊗k> = <a, b> <h, k>``, so distances need the two parts alone. The first pick has the longest embedding,
    as in the authors' code; each further one is drawn with probability proportional to its squared distance from the
    nearest pick.

    Args:
        probabilities: [n, num_classes].
        features: what the last layer sees, [n, dim].
        generator: one number is drawn for each pick after the first.
    """
    _check(len(features), budget)
    residuals = probabilities - F.one_hot(probabilities.argmax(1), probabilities.shape[1]).to(probabilities.dtype)
    lengths = (residuals.square().sum(1) * features.square().sum(1)).double().cpu().numpy()
    nearest, chosen = np.full(len(features), np.inf), np.zeros(budget, np.int64)
    for number in range(budget):
        row = int(lengths.argmax()) if number == 0 else _drawn(nearest, generator)
        chosen[number] = row
        products = ((residuals @ residuals[row]) * (features @ features[row])).double().cpu().numpy()
        nearest = np.minimum(nearest, np.maximum(lengths + lengths[row] - 2.0 * products, 0.0))
        nearest[chosen[: number + 1]] = -np.inf
    return chosen


def _drawn(nearest: npt.NDArray[np.float64], generator: np.random.Generator) -> int:
    """Draw a row by its squared distance; where all are 0, take the first that is not chosen yet (-inf)."""
    total = np.cumsum(np.maximum(nearest, 0.0))
    drawn = generator.random() * total[-1]
    if total[-1] <= 0.0:
        return int(np.isfinite(nearest).argmax())
    return int(min(np.searchsorted(total, drawn, side="right"), np.flatnonzero(nearest > 0.0)[-1]))


def _nearest_squared(rows: Tensor, centres: Tensor) -> Tensor:
    parts = [torch.cdist(rows, block).square().amin(1) for block in torch.split(centres, BLOCK_ROWS)]
    return torch.stack(parts).amin(0)


def _check(num_rows: int, budget: int) -> None:
    if budget > num_rows:
        raise UsageError(f"{budget} labels are asked for, but only {num_rows} images have none")


def _rows(chosen: Tensor) -> Rows:
    return np.asarray(chosen.cpu().numpy(), np.int64)
