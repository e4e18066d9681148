"""The peers that the benchmark of selectors measures do what their descriptions say."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "selection"))
import _field


def unit_rows(num: int, dim: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).random((num, dim), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_a_bloom_filter_holds_all_it_was_given_and_few_others():
    keys = _field.keys_of(np.random.default_rng(0).random((4_000, 70)) < 0.5)
    held = _field.CountingBloomFilter(num_slots=9_586, num_hashes=7)  # sized for 1 % with 1,000 keys
    held.add(keys[:1_000])
    assert held.holds(keys[:1_000]).all()
    assert 0 < held.holds(keys[1_000:]).mean() < 0.02
    assert held.counters.sum() == 7_000


def test_equal_bit_strings_have_equal_keys_and_others_do_not():
    bits = np.unique(np.random.default_rng(1).random((500, 65)) < 0.5, axis=0)
    keys = _field.keys_of(np.concatenate([bits, bits]))
    assert np.array_equal(keys[: len(bits)], keys[len(bits) :])
    assert len(np.unique(keys)) == len(bits)


@pytest.mark.parametrize("peer", [_field.bloom_coreset, _field.bloom_coreset_short])
def test_bloom_coreset_finds_copies_of_the_target_first(peer):
    target, pool = unit_rows(30, 16, 2), unit_rows(400, 16, 3)
    pool[100:130] = target
    picks, notes = peer(target, pool, 40)
    assert set(picks[:30]) == set(range(100, 130))
    assert len(set(picks)) == len(picks) <= min(40, notes["hits"])


def test_a_budget_is_shared_as_if_given_out_one_by_one():
    sizes = np.array([3, 0, 9, 1, 5])
    for budget in range(20):
        given = np.zeros(5, int)
        while given.sum() + np.count_nonzero(given < sizes) <= budget and (given < sizes).any():
            given += given < sizes
        shares = _field.equal_shares(sizes, budget, np.random.default_rng(budget))
        assert shares.sum() == min(budget, 18)
        assert ((shares - given >= 0) & (shares - given <= 1) & (shares <= sizes)).all()


def test_balanced_samples_are_distinct_meet_the_budget_and_keep_to_what_is_allowed():
    pool = unit_rows(3_000, 8, 4)
    levels = _field.hierarchical_kmeans(pool)
    assert [len(level.members) for level in levels] == [40, 2, 2]
    assert np.array_equal(np.sort(np.concatenate(levels[0].members)), np.arange(3_000))
    allowed = _field.near_clusters(levels, pool[:1])
    assert allowed.sum() == 1
    for marks, budget in ((None, 700), (allowed, 10)):
        picks = _field.balanced_sample(levels, budget, np.random.default_rng(0), marks)
        assert len(np.unique(picks)) == budget
    assert set(picks) < set(levels[0].members[int(allowed.argmax())])
    assert 0 in levels[0].members[int(allowed.argmax())]


def test_submodlib_covers_the_target_as_a_literal_greedy_does():
    pytest.importorskip("submodlib")
    target, pool = unit_rows(20, 8, 5), unit_rows(300, 8, 6)
    similarity, covered, literal = target @ pool.T, np.zeros(20), []
    for _ in range(10):
        literal.append(int(np.maximum(similarity - covered[:, None], 0).sum(axis=0).argmax()))
        covered = np.maximum(covered, similarity[:, literal[-1]])
    picks, notes = _field.submodlib_facility_location(target, pool, 40)
    assert picks[:10].tolist() == literal
    assert 10 < notes["picks_with_gain"] < 40


def test_the_summary_says_where_a_peer_is_better():
    import peers

    def row(selector, side, precision, picked=10):
        about = {"target": "t", "encoder": "e", "budget": 10, "selector": selector, "side": side}
        return about | {"picked": picked, "precision": precision, "covered": precision / 100}

    rows = [row("simcore", "ours", 5.0), row("top", "ours", 4.0), row("a", "peer", 6.0), row("b", "peer", 9.0, 8)]
    (line,) = peers.summary(rows)
    assert line["precision"] == {"ours": ["simcore", 5.0], "peer": ["a", 6.0]}
    assert line["peers_more_precise_than_simcore"] == ["a"]
    assert line["short_of_budget"] == ["b"]
