"""A machine of the cluster is lost while a selection asks for rows: its shards are read by the others."""

from __future__ import annotations

import numpy as np
import pytest

import simcore.selection._ray_cluster as ray_cluster
from simcore.artifacts import Embeddings
from simcore.selection import SimCore

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def two_nodes(monkeypatch):
    """A cluster of two nodes, joined; gives a function that kills the second one."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": 100 << 20})
    second = cluster.add_node(num_cpus=2, object_store_memory=100 << 20)
    ray.init(address=cluster.address, log_to_driver=False)
    yield lambda: cluster.remove_node(second, allow_graceful=False)
    ray.shutdown()
    cluster.shutdown()


def test_a_selection_goes_on_without_a_lost_node(two_nodes, monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    target = rng.normal(size=(30, 16))
    np.save(tmp_path / "pool.npy", rng.normal(size=(40_000, 16)).astype(np.float32))
    pool = Embeddings.load(tmp_path / "pool.npy")
    selector = SimCore(num_clusters=5, num_restarts=1)
    here = selector.select(target, pool, budget=20_000)
    monkeypatch.setattr(ray_cluster, "MIN_SHARD_ROWS", 1000)
    turns: list[int] = []
    answers = ray_cluster._Crew.answers

    def answers_after_a_loss(crew, refs):
        turns.append(len(refs))
        if len(turns) == 3:
            two_nodes()
        return answers(crew, refs)

    monkeypatch.setattr(ray_cluster._Crew, "answers", answers_after_a_loss)
    there = selector.select(target, pool, budget=20_000, engine="ray")
    assert turns[0] == 4
    assert len(turns) > 3
    assert np.array_equal(there.indices, here.indices)
    assert np.array_equal(there.similarities, here.similarities)
    assert there.objective == here.objective
