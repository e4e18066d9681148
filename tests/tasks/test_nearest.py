from __future__ import annotations

import pytest
import torch

from simcore.tasks import _nearest
from simcore.tasks._nearest import nearest, normalised


def literal(queries, bank, k):
    similarity = queries @ bank.T
    found = [sorted(range(len(bank)), key=lambda j: (-row[j].item(), j))[:k] for row in similarity]
    return torch.tensor(found)


@pytest.mark.parametrize("blocks", [(1, 1), (2, 3), (3, 7), (512, 16_384)])
@pytest.mark.parametrize("k", [1, 4, 20])
def test_nearest_equals_a_literal_search(monkeypatch, blocks, k):
    monkeypatch.setattr(_nearest, "QUERY_ROWS", blocks[0])
    monkeypatch.setattr(_nearest, "BANK_ROWS", blocks[1])
    generator = torch.Generator().manual_seed(k)
    # Small whole numbers: products are exact, and ties are many.
    queries = torch.randint(-2, 3, (9, 4), generator=generator).float()
    bank = torch.randint(-2, 3, (20, 4), generator=generator).float()
    similarity, rows = nearest(queries, bank, k)
    assert rows.tolist() == literal(queries, bank, k).tolist()
    assert torch.equal(similarity, (queries @ bank.T).gather(1, rows))


def test_nearest_of_no_query():
    similarity, rows = nearest(torch.zeros(0, 4), torch.zeros(5, 4), 2)
    assert similarity.shape == rows.shape == (0, 2)


def test_rows_of_zeros_stay_zero():
    rows = normalised(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    assert rows.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0.0, 0.0]]
