"""Acquisitions against dense, literal forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from simcore.errors import UsageError
from simcore.tasks import _acquisition as acquisition


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_random_picks_are_distinct_and_those_of_the_generator():
    picks = acquisition.random(20, 7, np.random.default_rng(1))
    assert len(set(picks.tolist())) == 7
    assert (picks == acquisition.random(20, 7, np.random.default_rng(1))).all()
    assert (picks != acquisition.random(20, 7, np.random.default_rng(2))).any()
    assert sorted(acquisition.random(5, 5, np.random.default_rng(0))) == [0, 1, 2, 3, 4]


def test_entropy_picks_the_least_sure_and_of_equals_the_first():
    probabilities = draws(30, 4).softmax(1)
    literal = [-sum(p * math.log(p) for p in row) for row in probabilities.tolist()]
    expected = sorted(range(30), key=lambda row: (-literal[row], row))[:6]
    assert acquisition.entropy(probabilities, 6).tolist() == expected
    assert acquisition.entropy(torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.5, 0.5]]), 2).tolist() == [1, 2]


@pytest.mark.parametrize("block", [4096, 7])
def test_coreset_is_the_literal_greedy(block, monkeypatch):
    monkeypatch.setattr(acquisition, "BLOCK_ROWS", block)
    features, labelled = draws(40, 5), draws(9, 5, seed=1)
    centres, expected = [row.tolist() for row in labelled], []
    for _ in range(8):
        nearest = [min(math.dist(row, centre) for centre in centres) for row in features.tolist()]
        expected.append(max(range(40), key=lambda row: nearest[row]))
        centres.append(features[expected[-1]].tolist())
    assert acquisition.coreset(features, labelled, 8).tolist() == expected


def test_coreset_of_everything_picks_each_row_once():
    features = torch.zeros(6, 3)
    assert sorted(acquisition.coreset(features, torch.zeros(1, 3), 6).tolist()) == list(range(6))


def dense_badge(probabilities, features, budget, generator):
    """Give the picks as the paper writes it, on embeddings of num_classes · dim numbers."""
    p, h = probabilities.numpy(), features.numpy()
    taken_for = np.eye(p.shape[1])[p.argmax(1)]
    embedded = ((p - taken_for)[:, :, None] * h[:, None, :]).reshape(len(p), -1)
    picks = [int((embedded**2).sum(1).argmax())]
    while len(picks) < budget:
        nearest = ((embedded[:, None] - embedded[picks][None]) ** 2).sum(2).min(1)
        picks.append(int(np.searchsorted(np.cumsum(nearest), generator.random() * nearest.sum(), side="right")))
    return picks


@pytest.mark.parametrize("seed", range(5))
def test_badge_picks_as_the_dense_form_does_for_the_same_generator(seed):
    probabilities, features = (2 * draws(50, 6, seed=seed)).softmax(1), draws(50, 8, seed=seed + 100)
    expected = dense_badge(probabilities, features, 12, np.random.default_rng(seed))
    assert acquisition.badge(probabilities, features, 12, np.random.default_rng(seed)).tolist() == expected
    single = acquisition.badge(probabilities.float(), features.float(), 12, np.random.default_rng(seed))
    assert single.tolist() == expected


def test_badge_goes_on_where_nothing_differs_any_more():
    probabilities, features = torch.full((5, 2), 0.5), torch.ones(5, 3)
    picks = acquisition.badge(probabilities, features, 5, np.random.default_rng(0))
    assert sorted(picks.tolist()) == [0, 1, 2, 3, 4]


def test_badge_never_holds_the_embeddings(peak_growth):
    """2,000 rows, 200 classes, 512 dimensions: the embeddings would take 1.6 GB in float64."""
    probabilities, features = torch.rand(2000, 200), torch.rand(2000, 512)
    with peak_growth() as grown:
        acquisition.badge(probabilities / probabilities.sum(1, keepdim=True), features, 5, np.random.default_rng(0))
    assert grown[0] < 200


@pytest.mark.parametrize(
    "ask",
    [
        lambda: acquisition.random(3, 4, np.random.default_rng(0)),
        lambda: acquisition.entropy(torch.ones(3, 2) / 2, 4),
        lambda: acquisition.coreset(torch.ones(3, 2), torch.ones(1, 2), 4),
        lambda: acquisition.badge(torch.ones(3, 2) / 2, torch.ones(3, 2), 4, np.random.default_rng(0)),
    ],
)
def test_more_labels_than_images_are_refused(ask):
    with pytest.raises(UsageError, match="4 labels are asked for, but only 3"):
        ask()
