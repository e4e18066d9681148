"""Deduplication, ensembles, and stops of single centroids."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from simcore.artifacts import Embeddings
from simcore.errors import SimcoreError, SimcoreWarning, UsageError
from simcore.selection import DensityRatio, Random, SimCore, Top, select_coreset


def normal(num, dim, seed, shift=0.3):
    return np.random.default_rng(seed).normal(size=(num, dim)) + shift


def cosine(one, other):
    one, other = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (one, other))
    return one @ other.T


def plain_sieve(order, pool, barred, threshold):
    """Walk down an order and keep what is near nothing kept before and nothing barred."""
    kept: list[int] = []
    for row in order:
        if (cosine(pool[[row]], barred) < threshold).all() and (
            not kept or (cosine(pool[[row]], pool[kept]) < threshold).all()
        ):
            kept.append(int(row))
    return kept


@pytest.mark.parametrize("selector", [SimCore(num_clusters=4), DensityRatio(num_background=60), Random(), Top()])
@pytest.mark.parametrize("budget", [10, 35])
def test_keeps_the_first_of_near_duplicates_and_fills_the_budget(selector, budget):
    rng = np.random.default_rng(0)
    originals = rng.normal(size=(120, 6))
    pool = np.repeat(originals, 3, axis=0) + 0.02 * rng.normal(size=(360, 6))
    target, test = normal(9, 6, 1), originals[:20] + 0.01 * rng.normal(size=(20, 6))
    chosen = select_coreset(selector, [(target, pool)], budget=budget, deduplicate=0.98, keep_out=[test])
    order = selector.select(target, pool, budget=360).indices
    assert chosen.indices.tolist() == plain_sieve(order, pool, np.vstack([target, test]), 0.98)[:budget]
    assert len(chosen.ids) == len(chosen.rounds) == budget
    last = order.tolist().index(chosen.indices[-1])
    assert chosen.settings["num_duplicates"] + chosen.settings["num_leaks"] == last + 1 - budget
    assert chosen.settings["num_leaks"] == sum(
        (cosine(pool[[row]], np.vstack([target, test])) >= 0.98).any() for row in order[: last + 1]
    )


def test_says_when_too_few_are_left_without_duplicates():
    pool = np.repeat(normal(5, 4, 0), 20, axis=0)
    with pytest.warns(SimcoreWarning, match=r"30\b.*\b5\b"):
        chosen = select_coreset(Random(), [(normal(3, 4, 1), pool)], budget=30, deduplicate=1.0)
    assert len(chosen) == 5
    assert chosen.stop_reason == "exhausted"


def test_a_selection_that_stops_by_itself_is_only_thinned():
    target, pool = normal(6, 3, 0), np.repeat(normal(300, 3, 1), 2, axis=0)
    whole = SimCore(num_clusters=2).select(target, pool)
    thinned = select_coreset(SimCore(num_clusters=2), [(target, pool)], deduplicate=1.0)
    assert thinned.indices.tolist() == plain_sieve(whole.indices, pool, target, 1.0 - 1e-9)
    assert thinned.stop_reason == "stop"


def test_deduplicating_warns_only_of_what_the_user_asked():
    pool = normal(50, 4, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        select_coreset(Random(), [(normal(3, 4, 1), pool)], budget=45, deduplicate=1.0)
    with pytest.warns(SimcoreWarning, match="60"):
        select_coreset(Random(), [(normal(3, 4, 1), pool)], budget=60, deduplicate=1.0)


@pytest.mark.parametrize("bad", [0.0, 1.2, -1.0])
def test_refuses_a_threshold_that_is_no_cosine(bad):
    with pytest.raises(UsageError, match="cosine"):
        select_coreset(Random(), [(normal(3, 4, 1), normal(9, 4, 0))], budget=3, deduplicate=bad)


def test_refuses_images_to_keep_out_of_another_encoder():
    stores = [(normal(3, 4, 1), normal(9, 4, 0))]
    with pytest.raises(SimcoreError, match=r"5 .* 4"):
        select_coreset(Random(), stores, budget=3, deduplicate=0.9, keep_out=[normal(3, 5, 0)])
    with pytest.raises(UsageError, match="deduplicate"):
        select_coreset(Random(), stores, budget=3, keep_out=[normal(3, 4, 0)])
    with pytest.raises(UsageError, match="at least one"):
        select_coreset(Random(), [], budget=3)


def test_an_ensemble_orders_by_mean_rank():
    stores = [(normal(8, 5, 1), normal(90, 5, 2)), (normal(8, 7, 3), normal(90, 7, 4))]
    chosen = select_coreset(Top(), stores, budget=12)
    ranks = np.zeros(90)
    for target, pool in stores:
        ranks[Top().select(target, pool, budget=90).indices] += np.arange(90)
    assert chosen.indices.tolist() == np.argsort(ranks, kind="stable")[:12].tolist()
    assert chosen.parents.keys() == {"target", "pool", "target_2", "pool_2"}
    assert chosen.settings["num_stores"] == 2
    first = Top().select(*stores[0], budget=90)
    known = dict(zip(first.indices.tolist(), first.similarities.tolist(), strict=True))
    assert chosen.similarities.tolist() == [known[row] for row in chosen.indices.tolist()]


def test_an_ensemble_of_one_encoder_twice_is_that_encoder():
    pair = (normal(8, 5, 1), normal(90, 5, 2))
    alone = SimCore(num_clusters=3).select(*pair, budget=20)
    assert np.array_equal(select_coreset(SimCore(num_clusters=3), [pair, pair], budget=20).indices, alone.indices)


def test_an_ensemble_leaves_out_what_one_encoder_cannot_place():
    bad = normal(30, 4, 0)
    bad[7] = np.nan
    with pytest.warns(SimcoreWarning, match="29"):
        chosen = select_coreset(Top(), [(normal(3, 5, 1), normal(30, 5, 2)), (normal(3, 4, 1), bad)], budget=30)
    assert sorted(chosen.indices.tolist()) == [row for row in range(30) if row != 7]
    assert chosen.num_invalid == 1


def test_an_ensemble_needs_the_same_images_and_a_budget():
    one = (normal(3, 4, 1), normal(30, 4, 2))
    with pytest.raises(SimcoreError, match=r"pool 2 .*29 rows and 30"):
        select_coreset(Top(), [one, (normal(3, 4, 1), normal(29, 4, 2))], budget=3)
    renamed = Embeddings.from_array(normal(30, 4, 2))
    names = renamed.table.column_names.index("id")
    renamed = Embeddings(
        features=renamed.features,
        table=renamed.table.set_column(names, "id", [[f"other/{row}" for row in range(30)]]),
    )
    with pytest.raises(SimcoreError, match="other images"):
        select_coreset(Top(), [one, (one[0], renamed)], budget=3)
    with pytest.raises(UsageError, match="budget"):
        select_coreset(SimCore(), [one, one])


def literal_own_stops(similarity, budget, ratio, patience):
    """Rounds in which each centroid has its own threshold, one pick at a time."""
    chosen: list[int] = []
    picking = set(range(len(similarity)))
    thresholds = [0.0] * len(similarity)
    number = 0
    while len(chosen) < budget and picking:
        number += 1
        best = {}
        for cluster in range(len(similarity)):
            row = max((r for r in range(similarity.shape[1]) if r not in chosen), key=lambda r: similarity[cluster, r])
            value = float(similarity[cluster, row])
            if number == patience:
                thresholds[cluster] = value * ratio
            if value < thresholds[cluster]:
                picking.discard(cluster)
            if cluster in picking:
                best[row] = max(value, best.get(row, -9.0))
        chosen += sorted(best, key=lambda row: (-best[row], row))[: budget - len(chosen)]
    return chosen


@pytest.mark.filterwarnings("ignore::simcore.errors.SimcoreWarning")
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("patience", [1, 4])
def test_centroids_that_stop_by_themselves_agree_with_the_literal_rule(seed, patience):
    target, pool = normal(5, 4, seed), normal(70, 4, seed + 50, shift=0.0)
    selector = SimCore(stop_ratio=0.8, patience=patience, stop_by="centroid")
    chosen = selector.select(target, pool, budget=50)
    assert chosen.indices.tolist() == literal_own_stops(cosine(target, pool), 50, 0.8, patience)


def test_rich_modes_go_on_where_a_poor_one_has_stopped():
    rng = np.random.default_rng(0)
    axis = np.eye(6)
    target = np.vstack([axis[0], axis[1]])
    pool = np.vstack([axis[0] + 0.05 * rng.normal(size=(5, 6)), axis[1] + 0.05 * rng.normal(size=(300, 6))])
    chosen = SimCore(stop_ratio=0.9, patience=1, stop_by="centroid").select(target, pool, budget=200)
    assert (len(chosen), chosen.stop_reason) == (200, "budget")
    assert (chosen.clusters == 0).sum() == 5
    assert len(SimCore(stop_ratio=0.9, patience=1).select(target, pool, budget=200)) < 20
    everything = SimCore(stop_ratio=0.9, patience=1, stop_by="centroid").select(target, pool, budget=305)
    assert len(everything) <= 305
