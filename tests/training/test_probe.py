from __future__ import annotations

import math

import torch

from simcore.training._probe import leave_one_out
from simcore.training._stages import stage_starts


def test_leave_one_out_is_a_weighted_vote_of_the_nearest_others() -> None:
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(30, 4, generator=generator), torch.randint(0, 3, (30,), generator=generator) * 2
    right = 0
    unit = features / features.norm(dim=1, keepdim=True)
    for row in range(30):
        others = sorted(((float(unit[row] @ unit[other]), other) for other in range(30) if other != row), reverse=True)
        votes: dict[int, float] = {}
        for cosine, other in others[:5]:
            votes[int(labels[other])] = votes.get(int(labels[other]), 0.0) + math.exp(cosine / 0.07)
        right += max(votes, key=lambda kind: votes[kind]) == int(labels[row])
    assert math.isclose(leave_one_out(features, labels, 5), 100 * right / 30, rel_tol=1e-6)


def test_more_neighbours_than_rows_are_clamped() -> None:
    features = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
    assert leave_one_out(features, torch.tensor([0, 0, 1, 1])) == 100.0


def test_stages_begin_where_the_published_ones_do() -> None:
    assert stage_starts(5000, 1) == []
    assert stage_starts(5000, 4) == [1250, 2500, 3750]
    assert stage_starts(7, 3) == [2, 4]
