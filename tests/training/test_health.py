from __future__ import annotations

import warnings

import pytest
import torch

from simcore.errors import SimcoreWarning
from simcore.training.health import CollapseWatch, effective_rank, feature_health


def test_rankme_counts_the_directions_in_use() -> None:
    orthogonal = torch.eye(8)[:, :6] * 3.0
    assert effective_rank(orthogonal) == pytest.approx(6, rel=1e-3)
    assert effective_rank(torch.ones(20, 6)) == pytest.approx(1, rel=1e-3)
    # Singular values 3 and 1: shares 3/4 and 1/4, so exp of 0.5623.
    assert effective_rank(torch.diag(torch.tensor([3.0, 1.0]))) == pytest.approx(1.7548, rel=1e-3)


def test_feature_std_is_1_on_the_sphere_and_0_when_collapsed() -> None:
    spread = torch.randn(256, 64, generator=torch.Generator().manual_seed(0))
    assert feature_health(spread)["feature_std"] == pytest.approx(1.0, abs=0.02)
    assert feature_health(torch.ones(10, 64))["feature_std"] == pytest.approx(0.0, abs=1e-6)
    # Length alone is no spread.
    assert feature_health(torch.ones(10, 4) * torch.arange(1.0, 11)[:, None])["feature_std"] == pytest.approx(
        0, abs=1e-6
    )


def test_collapse_is_said_once_until_it_is_over() -> None:
    watch = CollapseWatch()
    with pytest.warns(SimcoreWarning, match="epoch 3: the features have collapsed"):
        watch.look({"feature_std": 0.0}, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watch.look({"feature_std": 0.0}, 4)
        watch.look({"feature_std": 0.9}, 5)
        watch.look({}, 5)
    with pytest.warns(SimcoreWarning, match="epoch 6"):
        watch.look({"feature_std": 0.0}, 6)


def test_a_dead_projector_is_told_apart_from_collapsed_features() -> None:
    watch = CollapseWatch()
    with pytest.warns(SimcoreWarning, match="epoch 1: the projections have collapsed"):
        watch.look({"feature_std": 0.9, "projection_std": 0.0}, 1)
    with pytest.warns(SimcoreWarning, match="epoch 2: the features have collapsed") as told:
        watch.look({"feature_std": 0.0, "projection_std": 0.0}, 2)
    assert len(told) == 1
