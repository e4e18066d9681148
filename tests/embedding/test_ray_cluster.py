"""The same store from a Ray cluster, with workers killed in the middle, as from this process."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import simcore.cluster
import simcore.embedding.ray_cluster as ray_cluster
from simcore.cluster import connected
from simcore.embedding import Embedder
from simcore.embedding._reading import PieceReader
from simcore.errors import BadDataError, SimcoreError, UsageError
from simcore.images import open_images
from simcore.images.source import read_each

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::simcore.errors.SimcoreWarning")
NUM_IMAGES = 45


def test_chunks_are_whole_batches_of_one_piece_and_cover_it_once(monkeypatch):
    monkeypatch.setattr(ray_cluster, "CHUNK_BYTES", 2 * 4 * 10 * 10 * 3)
    chunks = list(ray_cluster.cut_chunks([(3, range(40, 60)), (5, range(60, 61))], batch_size=4, image_size=10))
    assert [(chunk.start, chunk.stop) for chunk in chunks] == [(40, 48), (48, 56), (56, 60), (60, 61)]
    assert [(chunk.piece, chunk.place, chunk.last) for chunk in chunks] == [
        (3, 0, False),
        (3, 1, False),
        (3, 2, True),
        (5, 0, True),
    ]


def test_a_chunk_decodes_to_the_batches_of_a_plain_reader(make_folder, encoder):
    images = open_images(make_folder(21))
    plain = list(PieceReader(images, [(0, range(5, 21))], encoder.transform, 3))
    (chunk,) = ray_cluster.cut_chunks([(0, range(5, 21))], 3, encoder.image_size)
    listing = images.listing.slice(5, 16)
    _, batches = ray_cluster.decode_chunk(images.take([]), listing, chunk, encoder.transform, 3)
    assert [(b.piece, b.start, b.reasons, b.last) for b in batches] == [
        (b.piece, b.start, b.reasons, b.last) for b in plain
    ]
    for made, wanted in zip(batches, plain, strict=True):
        assert np.array_equal(made.pixels, wanted.pixels)
        assert np.array_equal(made.sizes, wanted.sizes)


@pytest.mark.parametrize(
    ("resources", "settings", "plan"),
    [
        ({"CPU": 1.0}, {}, (1, 1, "cpu")),
        ({"CPU": 4.0}, {}, (3, 1, "cpu")),
        ({"CPU": 64.0}, {"num_workers": 2}, (56, 2, "cpu")),
        ({"CPU": 64.0, "GPU": 8.0}, {}, (8, 56, "cuda")),
        ({"CPU": 64.0, "GPU": 8.0}, {"device": "cpu"}, (56, 8, "cpu")),
    ],
)
def test_plan_of_a_cluster(encoder, resources, settings, plan):
    assert ray_cluster._plan(resources, Embedder(encoder, engine="ray", **settings)) == plan


def test_refuses_what_no_cluster_can_do(encoder, make_folder, monkeypatch, tmp_path):
    with pytest.raises(UsageError, match="--engine is 'spark', but must be one of local, ray"):
        Embedder(encoder, engine="spark")
    with pytest.raises(SimcoreError, match="the Ray cluster has no GPU"):
        ray_cluster._plan({"CPU": 2.0}, Embedder(encoder, engine="ray", device="cuda"))
    with pytest.raises(UsageError, match="computes on cpu or cuda"):
        ray_cluster._plan({"CPU": 2.0}, Embedder(encoder, engine="ray", device="mps"))
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="without torchrun"):
        Embedder(encoder, engine="ray", quiet=True)(make_folder(2), tmp_path / "store")


def test_without_ray_one_line_says_what_to_install(encoder, make_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SimcoreError, match=r"--engine ray needs Ray: pip install 'simcore\[ray\]'"):
        Embedder(encoder, engine="ray", quiet=True)(make_folder(2))


@pytest.fixture(scope="module")
def workers():
    """A local Ray with room for two actors and their decoder."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            address="local", num_cpus=3, object_store_memory=100 << 20, log_to_driver=False, include_dashboard=False
        )
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        yield ray
        ray.shutdown()


@pytest.fixture
def small_chunks(monkeypatch, small_pieces):
    """Several chunks to a piece."""
    monkeypatch.setattr(ray_cluster, "CHUNK_BYTES", 1)


class DiesOnce(torch.nn.Module):
    """A network whose process is killed when it meets a certain image for the first time, as a node going down is."""

    def __init__(self, network: torch.nn.Module, mark: Path, calls: int) -> None:
        super().__init__()
        self.network, self.mark, self.calls = network, mark, calls

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls -= 1
        if self.calls < 0 and not self.mark.exists():
            self.mark.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return self.network(images)


@dataclasses.dataclass(frozen=True)
class ReaderThatDies:
    """Reads as ``reader`` does, but its process is killed at one image, ``deaths`` times."""

    reader: object
    image: str
    marks: Path
    deaths: int

    @property
    def fingerprint(self):
        return self.reader.fingerprint

    @property
    def undated(self):
        return self.reader.undated

    @property
    def stamps_rows(self):
        return self.reader.stamps_rows

    def read(self, place, limits):
        done = len(list(self.marks.iterdir()))
        if place.uri.endswith(self.image) and done < self.deaths:
            (self.marks / str(done)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.reader.read(place, limits)

    def scan(self, places, limits):
        return read_each(self, places, limits)


def dying(images, marks: Path, image: str, deaths: int):
    marks.mkdir()
    return dataclasses.replace(images, readers=(ReaderThatDies(images.readers[0], image, marks, deaths),))


@pytest.mark.ray
@pytest.mark.usefixtures("workers", "small_chunks")
def test_the_store_is_byte_for_byte_that_of_this_process(make_folder, encoder, tmp_path, contents):
    folder = make_folder(NUM_IMAGES)
    (folder / "img_00020.jpg").write_bytes(b"")
    images = open_images(folder)
    settings = {"batch_size": 3, "quiet": True}
    here = Embedder(encoder, num_workers=0, **settings)(images, tmp_path / "here")
    there = Embedder(encoder, engine="ray", **settings)(images, tmp_path / "there")
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert len(there) == len(here) == NUM_IMAGES - 1
    kept = Embedder(encoder, engine="ray", **settings)(images)
    assert np.array_equal(np.asarray(kept.features), np.asarray(here.features))
    with pytest.raises(BadDataError, match="img_00020"):
        Embedder(encoder, engine="ray", strict=True, **settings)(images, tmp_path / "strict")


@pytest.mark.ray
@pytest.mark.usefixtures("workers", "small_chunks")
def test_an_actor_killed_in_the_middle_costs_nothing(make_folder, encoder, tmp_path, contents):
    images = open_images(make_folder(NUM_IMAGES))
    settings = {"batch_size": 3, "quiet": True}
    Embedder(encoder, num_workers=0, **settings)(images, tmp_path / "here")
    network = encoder.backbone
    assert encoder.fingerprint
    try:
        encoder.backbone = DiesOnce(network, tmp_path / "mark", calls=2)
        there = Embedder(encoder, engine="ray", **settings)(images, tmp_path / "there")
    finally:
        encoder.backbone = network
    assert (tmp_path / "mark").exists()
    assert there.table["id"].to_pylist() == [f"img_{number:05d}.jpg" for number in range(NUM_IMAGES)]
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


@pytest.mark.ray
@pytest.mark.usefixtures("workers", "small_chunks")
def test_a_decoder_killed_in_the_middle_costs_nothing(make_folder, encoder, tmp_path, contents):
    images = open_images(make_folder(NUM_IMAGES))
    settings = {"batch_size": 3, "quiet": True}
    Embedder(encoder, num_workers=0, **settings)(images, tmp_path / "here")
    there = dying(images, tmp_path / "marks", "img_00013.jpg", deaths=1)
    Embedder(encoder, engine="ray", **settings)(there, tmp_path / "there")
    assert len(list((tmp_path / "marks").iterdir())) == 1
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


@pytest.mark.ray
@pytest.mark.usefixtures("workers", "small_chunks")
def test_rows_that_kill_every_worker_are_named_and_the_rest_is_kept(make_folder, encoder, tmp_path, contents):
    images = open_images(make_folder(NUM_IMAGES))
    settings = {"batch_size": 4, "engine": "ray", "quiet": True}
    deadly = dying(images, tmp_path / "marks", "img_00042.jpg", deaths=ray_cluster.MAX_FAILURES)
    with pytest.raises(SimcoreError, match=r"3 Ray workers died of rows 40 to 43 .*run the same command again"):
        Embedder(encoder, **settings)(deadly, tmp_path / "store")
    assert list((tmp_path / "store" / ".working").rglob("piece-*"))
    resumed = Embedder(encoder, **settings)(deadly, tmp_path / "store")
    assert len(resumed) == NUM_IMAGES
    Embedder(encoder, batch_size=4, num_workers=0, quiet=True)(images, tmp_path / "here")
    assert contents(tmp_path / "store") == contents(tmp_path / "here")
    assert pq.read_table(tmp_path / "store" / "skipped.parquet").num_rows == 0


@pytest.mark.ray
def test_a_connection_that_is_there_is_used_and_left_alone(workers):
    with connected("nowhere:1") as ray:
        assert ray is workers
    assert workers.is_initialized()


@pytest.mark.ray
def test_an_address_without_a_cluster_is_one_line_and_quick(workers, monkeypatch):
    monkeypatch.setattr(workers, "is_initialized", lambda: False)
    monkeypatch.setattr(simcore.cluster, "PROBE_SECONDS", 1.0)
    with pytest.raises(SimcoreError, match="no Ray cluster answers at"), connected("127.0.0.1:1"):
        pass


@pytest.mark.ray
def test_the_command_line_says_no_word_of_ray(make_folder, tmp_path, contents):
    folder = make_folder(12)
    command = [sys.executable, "-m", "simcore", "embed", str(folder), "--encoder", "timm:resnet10@random"]
    command += ["--image-size", "32", "--quiet", "--json"]
    told = [
        subprocess.run([*command, "--out", str(tmp_path / engine), "--engine", engine], capture_output=True, check=True)
        for engine in ("local", "ray")
    ]
    assert told[1].stdout == told[0].stdout.replace(b"/local", b"/ray")
    assert told[1].stderr == b""
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


@pytest.mark.ray
def test_a_cluster_started_here_reports_to_nobody_is_quiet_of_deaths_and_ends(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, signal, time\n"
        "from simcore.cluster import connected\n"
        "handler = signal.getsignal(signal.SIGTERM)\n"
        "with connected() as ray:\n"
        "    dying = ray.remote(lambda: os.kill(os.getpid(), signal.SIGKILL)).options(max_retries=0)\n"
        "    try:\n"
        "        ray.get(dying.remote())\n"
        "    except ray.exceptions.WorkerCrashedError:\n"
        "        time.sleep(3)\n"
        "    assert os.environ['RAY_USAGE_STATS_ENABLED'] == '0'\n"
        "assert not ray.is_initialized()\n"
        "assert signal.getsignal(signal.SIGTERM) is handler\n"
    )
    told = subprocess.run([sys.executable, str(script)], capture_output=True, check=False)
    assert (told.returncode, told.stdout, told.stderr) == (0, b"", b"")
