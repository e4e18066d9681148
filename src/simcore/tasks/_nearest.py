"""Exact nearest neighbours by cosine, in blocks of fixed size."""

from __future__ import annotations

import torch
from torch import Tensor

QUERY_ROWS = 512
BANK_ROWS = 16_384


def nearest(queries: Tensor, bank: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the k most similar bank rows of each query; equal similarities go to the lower row first.

    Args:
        queries: rows of length 1, float32 [n, dim].
        bank: rows of length 1, float32 [num_bank, dim].
        k: at most num_bank.

    Returns:
        Similarities [n, k], descending, and bank rows int64 [n, k]. Memory beside them: QUERY_ROWS · BANK_ROWS.
    """
    found = [_nearest_of_block(block, bank, k) for block in torch.split(queries, QUERY_ROWS)]
    return torch.cat([values for values, _ in found]), torch.cat([rows for _, rows in found])


def _nearest_of_block(queries: Tensor, bank: Tensor, k: int) -> tuple[Tensor, Tensor]:
    values = queries.new_empty((len(queries), 0))
    rows = torch.empty((len(queries), 0), dtype=torch.int64, device=queries.device)
    for start in range(0, len(bank), BANK_ROWS):
        similarity = queries @ bank[start : start + BANK_ROWS].T
        new_values, new_rows = _top(similarity, min(k, similarity.shape[1]))
        # Earlier rows stand first, so a stable order among equals is that of the rows.
        joined = torch.cat([values, new_values], 1)
        order = joined.argsort(dim=1, descending=True, stable=True)[:, :k]
        values, rows = joined.gather(1, order), torch.cat([rows, new_rows + start], 1).gather(1, order)
    return values, rows


def _top(similarity: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Like ``torch.topk``, but with equal values in column order, also where the k-th value occurs again."""
    values, columns = similarity.topk(k, 1)
    again = torch.nonzero((similarity >= values[:, -1:]).sum(1) > k)[:, 0]
    if len(again):
        columns[again] = similarity[again].argsort(dim=1, descending=True, stable=True)[:, :k]
    columns = columns.sort(1).values
    order = similarity.gather(1, columns).argsort(dim=1, descending=True, stable=True)
    columns = columns.gather(1, order)
    return similarity.gather(1, columns), columns


def normalised(features: Tensor) -> Tensor:
    """Scale rows [n, dim] to length 1; a row of zeros stays zero, so its similarity to anything is 0."""
    return torch.nn.functional.normalize(features, dim=1)
