"""A store that is cut off, damaged, shared or in the way."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simcore.artifacts import Embeddings
from simcore.embedding import Embedder, load_encoder
from simcore.embedding import embedder as embedder_module
from simcore.embedding._lock import locked
from simcore.embedding._pieces import split_rows
from simcore.embedding.store import Store
from simcore.errors import SimcoreError, SimcoreWarning
from simcore.images import open_images, open_uris

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.* gave no feature"),
]

PROGRAM = """
import os, warnings
os.environ.update(environment)
warnings.simplefilter("ignore")
import torch
from simcore.embedding import Embedder, load_encoder, _pieces
from simcore.errors import SimcoreError
from simcore.images import open_images
torch.set_num_threads(1)
_pieces.MIN_ROWS = min_rows
encoder = load_encoder("timm:resnet10@random", device="cpu", image_size=32)
if limit:
    import resource, signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
pipe.send("ready")
try:
    embedder = Embedder(encoder, num_workers=num_workers, batch_size=16, overwrite=overwrite, moved=moved, quiet=True)
    embedder(open_images(source), out)
    pipe.send("done")
except SimcoreError as error:
    pipe.send(str(error))
"""


class Child:
    """An embedding process of its own, started from a server that has torch loaded already."""

    def __init__(self, source, out, *, num_workers=0, min_rows=8, limit=0, overwrite=False, moved=False, **environment):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["simcore.embedding", "simcore.images"])
        self.pipe, theirs = context.Pipe(duplex=False)
        given = {"source": str(source), "out": str(out), "num_workers": num_workers, "min_rows": min_rows}
        given |= {"limit": limit, "overwrite": overwrite, "moved": moved, "environment": environment, "pipe": theirs}
        self.process = context.Process(target=exec, args=(PROGRAM, given))
        self.process.start()
        theirs.close()
        assert self.say() == "ready"

    def say(self) -> str:
        """What the process says next."""
        assert self.pipe.poll(300)
        return self.pipe.recv()

    def outcome(self) -> str:
        """What it said at its end."""
        said = self.say()
        self.process.join()
        return said

    def kill(self) -> bool:
        """Kill it; tell whether it was still at work."""
        at_work = self.process.is_alive() and not self.pipe.poll()
        self.process.kill()
        self.process.join()
        return at_work


class Interrupted(BaseException):
    """Stands for a kill inside this process: nothing catches it."""


def interrupt_after(monkeypatch, method: str, calls: int):
    """Make a Store method stop the program before its call number ``calls`` (0-based)."""
    left = [calls]
    original = getattr(Store, method)

    def wrapped(self, *args, **kwargs):
        if left[0] == 0:
            raise Interrupted
        left[0] -= 1
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Store, method, wrapped)


def count_forward(monkeypatch, encoder) -> list[int]:
    """Count the images that go through the network."""
    seen: list[int] = []
    original = type(encoder).forward
    monkeypatch.setattr(type(encoder), "forward", lambda self, x: (seen.append(len(x)), original(self, x))[1])
    return seen


@pytest.fixture
def images(make_folder):
    folder = make_folder(60)
    (folder / "img_00013.jpg").write_bytes(b"")
    return open_images(folder)


@pytest.fixture
def whole(images, encoder, tmp_path, contents, small_pieces):
    """An undisturbed store's content."""
    quiet(Embedder(encoder, quiet=True, num_workers=0), images, tmp_path / "undisturbed")
    return contents(tmp_path / "undisturbed")


def quiet(embedder: Embedder, images, out) -> Embeddings:
    """Embed without the warning of the one empty image."""
    import warnings

    with warnings.catch_warnings(action="ignore", category=SimcoreWarning):
        return embedder(images, out)


def test_pieces_cover_the_source_and_do_not_depend_on_settings():
    for rows in (1, 7, 64, 65, 5000, 60_000, 1_281_167, 10**9):
        pieces = split_rows(rows)
        assert pieces[0].start == 0
        assert pieces[-1].stop == rows
        assert all(a.stop == b.start for a, b in itertools.pairwise(pieces))
        assert len(pieces[0]) >= min(64, rows)
        assert len(pieces[0]) <= 4096


@pytest.mark.parametrize(("method", "calls"), [("add", 0), ("add", 3), ("finish", 0), ("_complete", 0)])
def test_an_interrupted_store_goes_on_where_it_was(
    images, encoder, tmp_path, monkeypatch, contents, whole, method, calls
):
    out = tmp_path / "store"
    with monkeypatch.context() as patch:
        interrupt_after(patch, method, calls)
        with pytest.raises(Interrupted):
            quiet(Embedder(encoder, quiet=True, num_workers=0), images, out)
    with pytest.raises(SimcoreError, match="not a finished store"):
        Embeddings.load(out)
    seen = count_forward(monkeypatch, encoder)
    quiet(Embedder(encoder, quiet=True, num_workers=2 if method == "add" else 0), images, out)
    assert contents(out) == whole
    # 59 of 60 images are readable; three pieces of 8 rows hold the first 24 with the unreadable one among them.
    assert sum(seen) == {("add", 0): 59, ("add", 3): 36}.get((method, calls), 0)


def test_a_second_run_has_nothing_to_do(images, encoder, tmp_path, monkeypatch, capsys, contents, whole):
    out = tmp_path / "undisturbed"
    seen = count_forward(monkeypatch, encoder)
    again = quiet(Embedder(encoder), images, out)
    assert "nothing to do" in capsys.readouterr().err
    assert not seen
    assert len(again) == 59
    quiet(Embedder(encoder, overwrite=True), images, out)
    assert not seen
    assert contents(out) == whole


@pytest.mark.parametrize("damage", ["cut", "flipped", "swapped", "empty"])
def test_a_damaged_piece_is_noticed_and_made_again(images, encoder, tmp_path, monkeypatch, contents, whole, damage):
    out = tmp_path / "store"
    with monkeypatch.context() as patch:
        interrupt_after(patch, "finish", 0)
        with pytest.raises(Interrupted):
            quiet(Embedder(encoder, quiet=True, num_workers=0), images, out)
    first, second, third = sorted((out / ".working").rglob("piece-*"))[:3]
    data = bytearray(second.read_bytes())
    data[len(data) // 2] ^= 1
    spoiled = {"cut": data[: len(data) // 2], "flipped": data, "swapped": third.read_bytes(), "empty": b""}
    second.write_bytes(spoiled[damage])
    seen = count_forward(monkeypatch, encoder)
    with pytest.warns(SimcoreWarning, match="1 damaged pieces are made again"):
        Embedder(encoder, quiet=True, num_workers=0)(images, out)
    assert sum(seen) == 7
    assert first.parent.exists() is False
    assert contents(out) == whole


@pytest.mark.parametrize("name", ["features-00000.npy", "rows.parquet"])
def test_a_damaged_file_of_a_finished_store_is_noticed(images, encoder, tmp_path, contents, whole, name):
    out = tmp_path / "undisturbed"
    (out / name).write_bytes(whole[name][:-100])
    with pytest.warns(SimcoreWarning, match=f"{name}.*it is made again"):
        Embedder(encoder, quiet=True)(images, out)
    assert contents(out) == whole


def test_a_store_of_something_else_is_not_touched(images, encoder, tmp_path, contents, whole, make_folder):
    out = tmp_path / "undisturbed"
    other = load_encoder("timm:resnet10@random", device="cpu", image_size=40)
    more = open_images(make_folder(3, "more"))
    for embedder, source, text in (
        (Embedder(other, quiet=True), images, "its encoder timm:resnet10@random has changed since"),
        (Embedder(encoder, quiet=True), more, "its source is .*images, not .*more"),
        (Embedder(encoder, dtype="float32", quiet=True), images, "its dtype is float16, not float32"),
        (Embedder(encoder, precision="bf16-mixed", quiet=True), images, "its precision is 32, not bf16-mixed"),
    ):
        with pytest.raises(SimcoreError, match=f"{text}.*--overwrite replaces it"):
            embedder(source, out)
        assert contents(out) == whole
    made = Embedder(encoder, overwrite=True, quiet=True)(more, out)
    assert len(made) == 3
    assert len(Embeddings.load(out)) == 3


def touch(folder) -> None:
    """Give every file another date, as a copy does."""
    for number, file in enumerate(sorted(folder.iterdir())):
        os.utime(file, ns=(number, number))


@pytest.mark.parametrize("finished", [True, False])
def test_a_store_of_moved_images_goes_on_if_that_is_said(
    images, encoder, tmp_path, monkeypatch, contents, whole, finished
):
    out = tmp_path / "store"
    with monkeypatch.context() as patch:
        if not finished:
            interrupt_after(patch, "add", 3)
        with contextlib.nullcontext() if finished else pytest.raises(Interrupted):
            quiet(Embedder(encoder, quiet=True, num_workers=0), images, out)
    touch(tmp_path / "images")
    moved = open_images(tmp_path / "images")
    with pytest.raises(SimcoreError, match=r"its source .* has changed since; --moved goes on with it; --overwrite"):
        Embedder(encoder, quiet=True)(moved, out)
    made = quiet(Embedder(encoder, quiet=True, moved=True, num_workers=0), moved, out)
    now, first = contents(out), whole
    assert {name: data for name, data in now.items() if name != "store.json"} == {
        name: data for name, data in first.items() if name != "store.json"
    }
    said, before = json.loads(now["store.json"]), json.loads(first["store.json"])
    assert said == {**before, "source_fingerprint": moved.fingerprint}
    assert quiet(Embedder(encoder, quiet=True), moved, out).fingerprint == made.fingerprint  # it is said once


@pytest.mark.parametrize("copy", [shutil.copyfile, shutil.copy2])
@pytest.mark.parametrize("finished", [True, False])
def test_a_store_of_images_that_lie_elsewhere_now_says_where(
    images, encoder, tmp_path, monkeypatch, whole, finished, copy
):
    """A copy with new dates has to be told as such, one that kept its dates has not."""
    out = tmp_path / "store"
    with monkeypatch.context() as patch:
        if not finished:
            interrupt_after(patch, "add", 3)
        with contextlib.nullcontext() if finished else pytest.raises(Interrupted):
            quiet(Embedder(encoder, quiet=True, num_workers=0), images, out)
    shutil.copytree(tmp_path / "images", tmp_path / "copy", copy_function=copy)
    shutil.rmtree(tmp_path / "images")
    moved = copy is shutil.copyfile
    quiet(Embedder(encoder, quiet=True, moved=moved, num_workers=0), open_images(tmp_path / "copy"), out)
    reopened = open_uris(Embeddings.load(out))
    assert len(reopened) == 59
    names = [f"img_{number:05d}.jpg" for number in range(60) if number != 13]
    assert [Path(uri).name for uri in reopened.table["uri"].to_pylist()] == names
    assert [reopened.read(row) for row in range(59)] == [(tmp_path / "copy" / name).read_bytes() for name in names]


def test_processes_adopt_a_store_together(make_folder, tmp_path, contents):
    folder, out = make_folder(60), tmp_path / "store"
    assert Child(folder, out).outcome() == "done"
    touch(folder)
    ranks = [Child(folder, out, moved=True, RANK=str(rank), WORLD_SIZE="3") for rank in range(3)]
    assert [rank.outcome() for rank in ranks] == ["done"] * 3
    assert Embeddings.load(out).info["source_fingerprint"] == open_images(folder).fingerprint


def test_moved_images_must_be_the_same_in_all_else(images, encoder, tmp_path, contents, whole):
    out = tmp_path / "undisturbed"
    (tmp_path / "images" / "img_00000.jpg").write_bytes(b"another")
    with pytest.raises(SimcoreError, match="has changed since; --overwrite replaces it"):
        Embedder(encoder, quiet=True, moved=True)(open_images(tmp_path / "images"), out)
    assert contents(out) == whole


def test_overwriting_a_half_made_store_leaves_nothing_of_it(
    images, encoder, tmp_path, monkeypatch, contents, whole, make_folder
):
    out = tmp_path / "store"
    other = load_encoder("timm:resnet10@random", device="cpu", image_size=32, seed=1)
    with monkeypatch.context() as patch:
        interrupt_after(patch, "_complete", 0)
        with pytest.raises(Interrupted):
            quiet(Embedder(other, quiet=True, num_workers=0), images, out)
    with pytest.raises(SimcoreError, match="--overwrite"):
        Embedder(encoder, quiet=True)(images, out)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *a, **k: (_ for _ in ()).throw(Interrupted))
        with pytest.raises(Interrupted):  # cut off between the new plan and the removal of the old pieces
            quiet(Embedder(encoder, quiet=True, overwrite=True), images, out)
    quiet(Embedder(encoder, quiet=True), images, out)
    assert contents(out) == whole


def test_a_folder_that_is_no_store_is_left_alone(images, encoder, tmp_path):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "photos" / "a.png")
    with pytest.raises(SimcoreError, match=r"photos is no store but holds a.png; choose another --out"):
        Embedder(encoder, quiet=True, overwrite=True)(images, tmp_path / "photos")
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["a.png"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(SimcoreError, match=r"the store .*file cannot be written"):
        Embedder(encoder, quiet=True)(images, tmp_path / "file")


@pytest.mark.parametrize("spared", [0, 2, 8, 9, 10, 11, 12, 13])
def test_a_full_disk_is_an_error_and_the_store_goes_on(images, encoder, tmp_path, monkeypatch, contents, whole, spared):
    out, left = tmp_path / "store", [spared]
    original = os.fsync

    def full(handle):
        if left[0] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left[0] -= 1
        original(handle)

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(SimcoreError, match="No space left on device"):
            quiet(Embedder(encoder, quiet=True, num_workers=0), images, out)
    assert not list(out.rglob("*.tmp"))
    quiet(Embedder(encoder, quiet=True, num_workers=0), images, out)
    assert contents(out) == whole


def test_a_file_size_limit_is_an_error_and_no_crash(make_folder, tmp_path):
    """The system itself refuses to write: RLIMIT_FSIZE stands for a disk that is full in the middle of a file."""
    folder = make_folder(40)
    said = Child(folder, tmp_path / "store", limit=4096).outcome()
    assert "cannot be written (File too large); run the same again to go on" in said
    assert Child(folder, tmp_path / "store").outcome() == "done"
    assert len(Embeddings.load(tmp_path / "store")) == 40


def test_a_second_process_is_refused(images, tmp_path, encoder):
    out = tmp_path / "store"
    with locked(out / ".working" / "rank-00000.lock", "it"):
        said = Child(images.name, out).outcome()
    assert said == f"the store {out} is being written by another process; wait for it, or stop it"
    assert len(Embedder(encoder, quiet=True)(images, out)) == 59


def test_a_drive_without_locks_is_worked_on_with_a_warning(images, encoder, tmp_path, monkeypatch):
    def no_locks(*args):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.lockf", no_locks)
    with pytest.warns(SimcoreWarning, match="cannot be locked .No locks available"):
        made = Embedder(encoder, quiet=True)(images, tmp_path / "store")
    assert len(made) == 59


def test_a_lock_survives_the_removal_of_its_file(tmp_path):
    path = tmp_path / "working" / "lock"
    with locked(path, "it"):
        path.unlink()
        with locked(path, "it"):
            assert path.exists()


def kill_and_resume(folder: Path, out: Path, kills: int, **settings) -> int:
    """Kill an embedding process at random moments and let one finish; give how many were hit while at work."""
    draw, struck = random.Random(kills), 0
    for _ in range(kills):
        child = Child(folder, out, **settings)
        time.sleep(draw.uniform(0.0, 0.3))
        struck += child.kill()
    assert Child(folder, out, **settings).outcome() == "done"
    return struck


@pytest.mark.parametrize("num_workers", [0, 2])
def test_killed_processes_leave_the_same_bytes(make_folder, tmp_path, contents, num_workers):
    folder = make_folder(400)
    assert Child(folder, tmp_path / "undisturbed").outcome() == "done"
    assert kill_and_resume(folder, tmp_path / "killed", 4, num_workers=num_workers)
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")


@pytest.mark.slow
def test_fifty_kills_leave_the_same_bytes(make_folder, tmp_path, contents):
    folder = make_folder(5000)
    assert Child(folder, tmp_path / "undisturbed", min_rows=64).outcome() == "done"
    assert kill_and_resume(folder, tmp_path / "killed", 50, num_workers=2, min_rows=64) > 10
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")


def test_workers_end_with_a_killed_parent(make_folder, tmp_path):
    child = Child(make_folder(3000), tmp_path / "store", num_workers=2)
    workers = wait_for(lambda: children_of(child.process.pid), 30)
    time.sleep(0.5)
    assert child.kill()
    assert wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), 20)


def children_of(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()] if len(text.split()) == 2 else []


def wait_for(what, seconds: float):
    until = time.monotonic() + seconds
    while not (found := what()) and time.monotonic() < until:
        time.sleep(0.05)
    return found


@pytest.mark.parametrize("count", [60, 5])
def test_three_ranks_share_one_store(make_folder, tmp_path, contents, count):
    folder = make_folder(count)
    assert Child(folder, tmp_path / "alone").outcome() == "done"
    ranks = [
        Child(folder, tmp_path / "shared", num_workers=rank % 2, RANK=str(rank), WORLD_SIZE="3") for rank in range(3)
    ]
    assert [child.outcome() for child in ranks] == ["done"] * 3
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")
    ids = Embeddings.load(tmp_path / "shared").table["id"].to_pylist()
    assert ids == [f"img_{number:05d}.jpg" for number in range(count)]


@pytest.mark.parametrize("before", ["other", "damaged"])
def test_ranks_replace_a_store_together(make_folder, encoder, tmp_path, contents, before):
    folder, more, out = make_folder(60), make_folder(20, "more"), tmp_path / "shared"
    assert Child(folder, tmp_path / "alone").outcome() == "done"
    assert Child(more if before == "other" else folder, out).outcome() == "done"
    if before == "damaged":
        (out / "features-00000.npy").write_bytes(b"")
    ranks = [Child(folder, out, overwrite=True, RANK=str(rank), WORLD_SIZE="3") for rank in range(3)]
    assert [child.outcome() for child in ranks] == ["done"] * 3
    assert contents(out) == contents(tmp_path / "alone")


def test_a_killed_rank_is_made_up_for(make_folder, tmp_path, contents):
    folder = make_folder(200)
    assert Child(folder, tmp_path / "alone").outcome() == "done"
    ranks = [Child(folder, tmp_path / "shared", RANK=str(rank), WORLD_SIZE="3") for rank in range(3)]
    for child in ranks:
        child.kill()
    assert Child(folder, tmp_path / "shared").outcome() == "done"
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")


@pytest.mark.slow
def test_under_torchrun(make_folder, encoder, tmp_path):
    folder, program = make_folder(30), tmp_path / "program.py"
    program.write_text(
        "from simcore.embedding import Embedder, load_encoder\n"
        "encoder = load_encoder('timm:resnet10@random', device='cpu', image_size=32)\n"
        f"assert len(Embedder(encoder, quiet=True)({str(folder)!r}, {str(tmp_path / 'store')!r})) == 30\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=3", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    alone = Embedder(encoder, quiet=True)(folder)
    assert np.array_equal(np.asarray(Embeddings.load(tmp_path / "store").features), np.asarray(alone.features))


def test_ranks_that_torchrun_did_not_set(encoder, images, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(SimcoreError, match="RANK=3 and WORLD_SIZE=3"):
        Embedder(encoder, quiet=True)(images, tmp_path / "store")


def test_several_files_of_features(make_folder, encoder, tmp_path, monkeypatch, contents, small_pieces):
    images = open_images(make_folder(60))
    one = np.asarray(Embedder(encoder, quiet=True)(images).features)
    monkeypatch.setattr("simcore.embedding.store.MIN_PART_ROWS", 16)
    with monkeypatch.context() as patch:
        interrupt_after(patch, "_merge", 2)
        with pytest.raises(Interrupted):
            Embedder(encoder, quiet=True, num_workers=0)(images, tmp_path / "store")
    seen = count_forward(monkeypatch, encoder)
    made = Embedder(encoder, quiet=True, num_workers=0)(images, tmp_path / "store")
    assert not seen
    assert made.info["parts"] == [f"features-{part:05d}.npy" for part in range(4)]
    assert np.array_equal(np.asarray(made.features), one)
    assert made.table["row"].to_pylist() == list(range(60))


def test_a_file_of_features_without_a_row_is_left_out(make_folder, encoder, tmp_path, monkeypatch, small_pieces):
    monkeypatch.setattr("simcore.embedding.store.MIN_PART_ROWS", 8)
    folder = make_folder(24)
    for number in range(8, 16):
        (folder / f"img_{number:05d}.jpg").write_bytes(b"")
    made = quiet(Embedder(encoder, quiet=True, num_workers=0), open_images(folder), tmp_path / "store")
    assert made.info["parts"] == ["features-00000.npy", "features-00002.npy"]
    assert made.features.shape == (16, 512)


def test_store_json_says_what_it_is_of(images, encoder, tmp_path, whole):
    said = json.loads(whole["store.json"])
    assert (said["format"], said["complete"], said["num_rows"], said["num_skipped"], said["dim"]) == (
        1,
        True,
        59,
        1,
        512,
    )
    assert said["encoder"] == "timm:resnet10@random"
    assert said["encoder_fingerprint"] == encoder.fingerprint
    assert (said["source"], said["source_fingerprint"]) == (images.name, images.fingerprint)
    assert (said["dtype"], said["parts"], said["classes"]) == ("float16", ["features-00000.npy"], list(images.classes))
    assert said["transform"]["image_size"] == 32
    assert embedder_module.simcore.__version__ == said["simcore"]
