"""Kept listings: the second time is quick, and no change goes unnoticed."""

from __future__ import annotations

import os
import time

import pyarrow as pa
import pytest

from simcore.images import cache, open_images, samples, walk
from simcore.images.cache import keep, recall


@pytest.fixture(autouse=True)
def small_enough(monkeypatch, tmp_path):
    """Keep listings of any size, in a cache of the test's own."""
    monkeypatch.setattr(walk, "MIN_KEPT_FILES", 1)
    monkeypatch.setattr(samples, "MIN_KEPT_ROWS", 1)
    monkeypatch.setenv("SIMCORE_CACHE", str(tmp_path / "cache"))


def age(*paths) -> None:
    """Make paths look as if they had been left alone for a minute."""
    past = time.time_ns() - 60 * 10**9
    for path in paths:
        os.utime(path, ns=(past, past))


@pytest.fixture
def folder(make):
    for name in ("a/1.png", "a/2.png", "b/3.png", "b/deep/4.png"):
        make.put(f"in/{name}", make.png())
    make.put("in/b/.DS_Store", b"x")
    make.put("in/b/notes.txt", b"x")
    root = make.root / "in"
    age(root, root / "a", root / "b", root / "b/deep")
    return root


@pytest.fixture
def walks(monkeypatch) -> list[bytes]:
    """The folders that were really walked."""
    walked: list[bytes] = []
    original = walk._walk_local
    monkeypatch.setattr(walk, "_walk_local", lambda root, builder: (walked.append(root), original(root, builder)))
    return walked


def test_an_unchanged_folder_is_not_walked_again(folder, walks, monkeypatch):
    first = open_images(folder)
    again = open_images(folder)
    monkeypatch.chdir(folder.parent)
    relative = open_images("in")
    assert len(walks) == 1
    assert first.table.equals(again.table)
    assert first.table.equals(relative.table)
    assert first.fingerprint == again.fingerprint
    assert first.notes == again.notes
    assert first.notes.num_hidden == 1


@pytest.mark.parametrize("change", ["added", "removed", "renamed", "rewritten", "added deep", "folder added", "hidden"])
def test_change_is_noticed(make, folder, walks, change):
    before = open_images(folder)
    match change:
        case "added":
            make.put("in/a/3.png", make.png())
        case "added deep":
            make.put("in/b/deep/5.png", make.png())
        case "folder added":
            make.put("in/c/1.png", make.png())
        case "removed":
            (folder / "b/3.png").unlink()
        case "renamed":
            (folder / "a/1.png").rename(folder / "a/0.png")
        case "rewritten":
            (folder / "a/1.png").write_bytes(make.png(5))
        case "hidden":
            make.put("in/a/.x", b"")
    after = open_images(folder)
    assert len(walks) == 2
    if change != "hidden":
        assert after.fingerprint != before.fingerprint
        assert not after.listing.equals(before.listing)


def test_a_folder_that_has_just_changed_is_not_kept(make, walks):
    make.put("new/1.png", make.png())
    open_images(make.root / "new")
    open_images(make.root / "new")
    assert len(walks) == 2


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_cache_is_only_slow(folder, walks, tmp_path, damage):
    first = open_images(folder)
    for path in (tmp_path / "cache/listings").iterdir():
        path.write_bytes(path.read_bytes()[:500] if damage is None else damage)
    assert open_images(folder).table.equals(first.table)
    assert len(walks) == 2


def test_a_cache_that_cannot_be_written_is_no_error(make, folder, walks, monkeypatch):
    monkeypatch.setenv("SIMCORE_CACHE", str(make.put("file", b"")))
    assert len(open_images(folder)) == len(open_images(folder)) == 4
    assert len(walks) == 2


@pytest.fixture
def shard_reads(monkeypatch) -> list[str]:
    read: list[str] = []
    original = samples.index_shard
    monkeypatch.setattr(samples, "index_shard", lambda shard, size: (read.append(shard), original(shard, size))[1])
    return read


def test_shards_are_indexed_once(make, shard_reads):
    path = make.tar("s.tar", make.samples(3))
    cut = make.put("t.tar", make.tar_bytes(make.samples(9))[:9000])
    age(path, cut)
    with pytest.warns(match=r"t\.tar is incomplete"):
        first = open_images(make.root)
    with pytest.warns(match=r"t\.tar is incomplete"):
        again = open_images(make.root)
    assert len(shard_reads) == 2
    assert first.listing.equals(again.listing)
    assert first.notes == again.notes
    assert again.read(1) == make.png(1)
    path.write_bytes(make.tar_bytes(make.samples(4)))
    with pytest.warns(match=r"t\.tar is incomplete"):
        assert len(open_images(make.root)) == len(first) + 1


def test_old_and_surplus_entries_are_dropped(monkeypatch, tmp_path):
    monkeypatch.setattr(cache, "TIDY_EVERY_SECONDS", -1)
    table = pa.table({"x": list(range(1000))})
    for number in range(4):
        keep(table, number)
    paths = sorted((tmp_path / "cache/listings").glob("*.arrow"))
    long_ago = time.time() - 2 * cache.MAX_AGE_SECONDS
    os.utime(cache._path((0,)), (long_ago, long_ago))
    keep(table, 4)
    assert recall(0) is None
    assert recall(4).equals(table)
    os.utime(cache._path((1,)), (time.time() - 9, time.time() - 9))
    monkeypatch.setattr(cache, "MAX_BYTES", 3.5 * paths[1].stat().st_size)
    keep(table, 5)
    kept = [number for number in range(6) if recall(number) is not None]
    assert len(kept) == 3
    assert 5 in kept
    assert not {0, 1} & set(kept)
