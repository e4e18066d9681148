"""A machine of the cluster is lost in the middle: two nodes on this machine, one of which is killed."""

from __future__ import annotations

import numpy as np
import pytest

import simcore.embedding.ray_cluster as ray_cluster
from simcore.embedding import Embedder
from simcore.images import open_images

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


def test_embedding_goes_on_without_a_lost_node(two_nodes, make_folder, encoder, small_pieces, monkeypatch, tmp_path):
    images = open_images(make_folder(120))
    monkeypatch.setattr(ray_cluster, "CHUNK_BYTES", 1)
    here = Embedder(encoder, num_workers=0, batch_size=4, quiet=True)(images)
    arrivals: list[int] = []
    take = ray_cluster._Crew._take_embedded

    def take_and_kill(crew, ref):
        arrivals.append(1)
        if len(arrivals) == 10:
            two_nodes()
        yield from take(crew, ref)

    monkeypatch.setattr(ray_cluster._Crew, "_take_embedded", take_and_kill)
    there = Embedder(encoder, engine="ray", batch_size=4, quiet=True)(images, tmp_path / "store")
    assert len(arrivals) >= 30
    assert there.table.equals(here.table)
    assert np.array_equal(np.asarray(there.features), np.asarray(here.features))
