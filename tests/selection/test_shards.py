"""A pool cut into shards, each in a process of its own, gives the selections of the whole."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import signal
import sys
import types

import numpy as np
import pytest

import simcore.selection._ray_cluster as ray_cluster
from simcore import registry
from simcore.artifacts import Embeddings
from simcore.artifacts.parts import PartedArray
from simcore.errors import SimcoreError, UsageError
from simcore.selection import FacilityLocation, Random, SimCore, select_coreset
from simcore.selection._merging import ShardRanked, merge, stack
from simcore.selection._shards import ShardWorker, cut

pytestmark = pytest.mark.filterwarnings("ignore::simcore.errors.SimcoreWarning")


def same(one, other):
    """Compare all that a selection says."""
    for field in dataclasses.fields(one):
        left, right = getattr(one, field.name), getattr(other, field.name)
        if isinstance(left, np.ndarray):
            np.testing.assert_array_equal(left, right, field.name)
        else:
            assert left == right, field.name


def random_lists(rng, num_shards, num_clusters):
    """Draw a matrix with ties, cut its columns into shards, list the top of each shard to a random depth."""
    num_rows = int(rng.integers(num_shards, 60))
    matrix = rng.integers(-3, 4, (num_clusters, num_rows)).astype(np.float32)
    bounds = np.sort(rng.choice(np.arange(1, num_rows), num_shards - 1, replace=False))
    answers = []
    for rows in np.split(np.arange(num_rows), bounds):
        depths = rng.integers(1, len(rows) + 1, num_clusters)
        orders = [rows[np.lexsort((rows, -matrix[q, rows]))][: depths[q]] for q in range(num_clusters)]
        answers.append(
            ShardRanked(
                np.arange(num_clusters),
                depths,
                np.concatenate(orders),
                np.concatenate([matrix[q, order] for q, order in enumerate(orders)]),
                depths == len(rows),
            )
        )
    return matrix, answers


@pytest.mark.parametrize("seed", range(40))
def test_merged_lists_are_the_longest_beginnings_of_the_full_order_that_are_sure(seed):
    rng = np.random.default_rng(seed)
    matrix, answers = random_lists(rng, int(rng.integers(1, 6)), 4)
    depth = int(rng.integers(1, matrix.shape[1] + 1))
    merged = merge(answers, np.arange(4), depth)
    for q in range(4):
        order = np.lexsort((np.arange(matrix.shape[1]), -matrix[q]))
        listed = {int(row) for a in answers for row in np.split(a.rows, np.cumsum(a.counts)[:-1])[q]}
        cutting = [np.split(a.rows, np.cumsum(a.counts)[:-1])[q][-1] for a in answers if not a.whole[q]]
        # Literally: walk the full order; the row at which an unfinished list ends is the last one known.
        sure = []
        for row in order.tolist():
            assert row in listed
            sure.append(row)
            if row in cutting:
                break
        found = merged.ranked.indices[q][merged.ranked.indices[q] >= 0].tolist()
        assert found == sure[:depth]
        assert merged.ranked.values[q, : len(found)].tolist() == matrix[q, found].tolist()
        blamed = [q in short for short in merged.short]
        early = [
            not a.whole[q] and np.split(a.rows, np.cumsum(a.counts)[:-1])[q][-1] in order[: depth - 1] for a in answers
        ]
        assert (np.array(early) <= np.array(blamed)).all()
        if len(found) < depth:
            assert any(blamed)


def test_lists_of_some_clusters_leave_the_others_alone():
    answer = ShardRanked(
        np.array([2, 5]), np.array([1, 2]), np.array([7, 8, 9]), np.float32([3, 2, 1]), np.array([True, False])
    )
    rest = answer.without(np.array([2]))
    assert (rest.clusters.tolist(), rest.counts.tolist(), rest.rows.tolist()) == ([5], [2], [8, 9])
    assert rest.values.tolist() == [2, 1]
    assert rest.whole.tolist() == [False]


def test_stacking_pads_shorter_lists():
    parts = [merge([ShardRanked.of_nothing(np.array([0]))], np.array([0]), 3).ranked]
    full = ShardRanked(np.array([1]), np.array([2]), np.array([4, 6]), np.float32([1, 0.5]), np.array([True]))
    parts.append(merge([full], np.array([1]), 3).ranked)
    assert stack(parts).indices.tolist() == [[-1, -1], [4, 6]]


@pytest.fixture
def store(tmp_path):
    """Features in files, as a store keeps them, of uneven lengths."""
    rng = np.random.default_rng(3)
    parts = []
    for number, rows in enumerate((700, 1, 1299)):
        np.save(tmp_path / f"{number}.npy", rng.normal(size=(rows, 12)).astype(np.float16))
        parts.append(np.load(tmp_path / f"{number}.npy", mmap_mode="r"))
    return dataclasses.replace(Embeddings.from_array(PartedArray(parts)), barred=np.array([699, 700, 1500]))


def test_shards_cover_files_and_arrays_once(store):
    shards = cut(store, 7, 1)
    assert [shard.start for shard in shards[1:]] == [shard.stop for shard in shards[:-1]]
    assert (shards[0].start, shards[-1].stop) == (0, 2000)
    rows = np.concatenate([np.asarray(shard.open(())._stored) for shard in shards])
    assert np.array_equal(rows, np.asarray(store.features))
    assert [(s.start + s.barred).tolist() for s in shards if len(s.barred)] == [[699, 700], [1500]]
    assert not cut(Embeddings.from_array(np.ones((9, 2))), 2, 1)[0].stretches
    part_of_a_file = Embeddings.from_array(PartedArray([store.features.parts[0][5:]]))
    assert not cut(part_of_a_file, 2, 1)[0].stretches


def test_a_file_that_a_node_cannot_read_is_named(store, tmp_path):
    shard = cut(store, 1, 1)[0]
    (tmp_path / "1.npy").unlink()
    with pytest.raises(SimcoreError, match=r"1\.npy cannot be read on a node .* storage that all nodes share"):
        shard.open(())


class CrewHere:
    """Workers in this process; requests go through pickle, as between processes."""

    def __init__(self, pool, num_shards):
        self.ray = types.SimpleNamespace(put=lambda value: value)
        self.shards = cut(pool, num_shards, 1)
        self.workers = [ShardWorker() for _ in self.shards]
        self.pool, self.num_keys, self.num_requests = pool, 0, 0

    def new_key(self):
        self.num_keys += 1
        return str(self.num_keys)

    def ask(self, number, method, *args):
        self.num_requests += 1
        shard = self.shards[number]
        arrays = () if shard.stretches else [self.pool.features[shard.start : shard.stop]]
        if self.num_requests % 5 == 0:
            self.workers[number] = ShardWorker()  # as after a death: it has forgotten everything
        sent = pickle.loads(pickle.dumps((shard, arrays, args)))
        return getattr(self.workers[number], method)(sent[0], sent[1], *sent[2])

    def answers(self, refs):
        return list(refs)


@pytest.fixture
def shards_here(monkeypatch, monkeypatch_threads):
    """Let ``engine="ray"`` mean workers of this process."""
    crews = []

    @contextlib.contextmanager
    def on_cluster(pool, address):
        crews.append(CrewHere(pool, int(address)))
        yield ray_cluster.ShardedFeatures(pool, crews[-1])

    monkeypatch.setattr(ray_cluster, "on_cluster", on_cluster)
    return crews


@pytest.fixture
def monkeypatch_threads(monkeypatch):
    """Workers set OMP_NUM_THREADS; put it back."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def labelled_pool(seed, num=1500, dim=8):
    rng = np.random.default_rng(seed)
    pool = rng.normal(size=(num, dim)).astype(np.float32)
    pool[rng.random(num) < 0.02] = np.nan
    pool[rng.integers(0, num, 40)] = pool[0]
    return Embeddings.from_array(pool, labels=rng.integers(0, 5, num))


@pytest.mark.usefixtures("shards_here")
@pytest.mark.parametrize("name", registry.names("selection"))
def test_every_selector_gives_the_same_on_shards(name):
    selector = registry.find("selection", name)()
    target = np.random.default_rng(7).normal(size=(40, 8)) + 0.5
    target, pool = Embeddings.from_array(target, labels=np.arange(40) % 2), labelled_pool(7)
    here = selector.select(target, pool, budget=200)
    for num_shards in ("1", "3"):
        same(selector.select(target, pool, budget=200, engine="ray", ray_address=num_shards), here)


@pytest.mark.usefixtures("shards_here")
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("sorted_by_class", [False, True])
def test_simcore_on_shards_whatever_the_order_of_the_pool(seed, sorted_by_class, store, monkeypatch):
    monkeypatch.setattr(ray_cluster, "_ENTRIES_AT_ONCE", (1 << 24, 100)[seed % 2])
    rng = np.random.default_rng(seed)
    target = rng.normal(size=(30, 12))
    pool = store
    if sorted_by_class:  # all that is near a centroid lies in one shard
        rows = np.asarray(store.features)
        pool = rows[np.argsort(-(rows.astype(np.float64) @ target[0]))]
    for selector in (
        SimCore(num_clusters=1 + seed, num_restarts=1),
        SimCore(num_clusters=5, num_restarts=1, whiten=True),
    ):
        budget = int(rng.integers(1, 1990))
        here = selector.select(target, pool, budget=budget)
        same(selector.select(target, pool, budget=budget, engine="ray", ray_address=str(2 + seed % 6)), here)
    stopped = SimCore(num_clusters=4, stop_by="centroid", stop_ratio=0.9)
    same(stopped.select(target, pool, engine="ray", ray_address="3"), stopped.select(target, pool))


def test_a_pool_sorted_by_similarity_is_asked_for_in_few_rounds(shards_here):
    rng = np.random.default_rng(0)
    target = rng.normal(size=(1, 6))
    rows = rng.normal(size=(4000, 6))
    rows = rows[np.argsort(-(rows @ target[0]) / np.linalg.norm(rows, axis=1))]
    chosen = SimCore(num_clusters=1).select(target, rows, budget=400, engine="ray", ray_address="8")
    assert chosen.indices.tolist() == list(range(400))
    assert shards_here[0].num_requests < 100


@pytest.mark.usefixtures("shards_here")
def test_facility_location_has_lists_of_full_length_in_spite_of_near_ties():
    rng = np.random.default_rng(5)
    base = rng.normal(size=64)
    pool = (base + 1e-6 * rng.normal(size=(900, 64))).astype(np.float32)
    target = base + 0.1 * rng.normal(size=(6, 64))
    selector = FacilityLocation(num_near=20)
    here = selector.select(target, pool, budget=60)
    same(selector.select(target, pool, budget=60, engine="ray", ray_address="4"), here)


@pytest.mark.usefixtures("shards_here")
def test_ensembles_and_deduplication_pass_the_engine_on(shards_here):
    rng = np.random.default_rng(2)
    stores = [(rng.normal(size=(20, 5)), rng.normal(size=(300, 5))) for _ in range(2)]
    here = select_coreset(SimCore(num_clusters=3), stores, budget=30, deduplicate=0.99)
    there = select_coreset(SimCore(num_clusters=3), stores, budget=30, deduplicate=0.99, engine="ray", ray_address="2")
    same(there, here)
    assert len(shards_here) >= 2


def test_what_is_no_engine_is_refused_and_ray_that_is_missing_named(monkeypatch):
    with pytest.raises(UsageError, match="--engine is 'dask'"):
        Random().select(np.ones((2, 2)), np.ones((3, 2)), budget=1, engine="dask")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SimcoreError, match=r"pip install 'simcore\[ray\]'"):
        SimCore().select(np.ones((2, 2)), np.ones((3, 2)), budget=1, engine="ray")


@pytest.fixture(scope="module")
def workers():
    """A local Ray with two workers."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            address="local", num_cpus=2, object_store_memory=100 << 20, log_to_driver=False, include_dashboard=False
        )
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        yield ray
        ray.shutdown()


@pytest.mark.ray
@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize("in_files", [True, False])
def test_a_worker_killed_in_the_middle_changes_nothing(store, monkeypatch, in_files):
    monkeypatch.setattr(ray_cluster, "MIN_SHARD_ROWS", 100)
    pool = store if in_files else np.asarray(store.features)
    target = np.random.default_rng(1).normal(size=(30, 12))
    doomed: list[int] = []
    prepare, answers = ray_cluster.ClusterScores.prepare, ray_cluster._Crew.answers

    def prepare_and_note(scores):
        """Make the pass, then find out which processes hold what it left."""
        prepare(scores)
        doomed.extend(answers(scores._crew, [actor.process.remote() for actor in scores._crew.actors]))

    def answers_after_a_death(crew, refs):
        """Kill a worker, one at each turn, while requests are under way."""
        if doomed:
            os.kill(doomed.pop(), signal.SIGKILL)
        return answers(crew, refs)

    selector = SimCore(num_clusters=6)
    here = selector.select(target, pool, budget=900)
    monkeypatch.setattr(ray_cluster.ClusterScores, "prepare", prepare_and_note)
    monkeypatch.setattr(ray_cluster._Crew, "answers", answers_after_a_death)
    there = selector.select(target, pool, budget=900, engine="ray")
    assert not doomed
    same(there, here)
    assert len(np.unique(there.indices)) == 900


def die(features, first_row):
    """Work that no worker survives."""
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.ray
def test_a_worker_that_keeps_dying_ends_in_one_line(workers, monkeypatch):
    monkeypatch.setattr(ray_cluster, "MAX_RESTARTS", 1)
    with (
        ray_cluster.on_cluster(labelled_pool(1), None) as pool,
        pytest.raises(SimcoreError, match="a Ray worker with a part of the pool died again and again"),
    ):
        pool.over_shards(die)
