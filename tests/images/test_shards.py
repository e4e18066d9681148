"""Tar shards: keys, labels, cuts, links, and every way a tar is written."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile

import numpy as np
import pytest

from simcore.errors import SimcoreError, SimcoreWarning
from simcore.images import open_images
from simcore.images.faults import Unreadable
from simcore.images.samples import index_shard, split_key


def ids(source) -> list[str]:
    return source.table["id"].to_pylist()


def names(source) -> list[str]:
    return [name.partition(".tar/")[2] for name in ids(source)]


def test_dots_in_names_do_not_split_keys(make):
    keys = ["train.v1/0001", "train.v1/0002", "train.v1/Track 2.0 (clean)", "train.v1/22.05"]
    members = [m for n, key in enumerate(keys) for m in ((f"{key}.png", make.png(n)), (f"{key}.cls", str(n).encode()))]
    source = open_images(make.tar("shard-000000.tar", members))
    assert names(source) == [f"{key}.png" for key in keys]
    assert source.labels.tolist() == [0, 1, 2, 3]
    assert [source.read(row) for row in range(4)] == [make.png(n) for n in range(4)]


@pytest.mark.parametrize(
    ("name", "key", "extension"),
    [
        ("a/b.c/d.e.JPG", "a/b.c/d.e", "jpg"),
        ("plain", "plain", ""),
        ("a.b/plain", "a.b/plain", ""),
        ("dir/.hidden", "dir/.hidden", ""),
        ("1.5.cls", "1.5", "cls"),
    ],
)
def test_keys(name, key, extension):
    assert split_key(name) == (key, extension)


def test_uris_are_fsspec_chains(make):
    import fsspec

    source = open_images(make.tar("s.tar", make.samples(3)))
    uri = source.table["uri"][1].as_py()
    assert uri == f"tar://001.png::{make.root}/s.tar"
    with fsspec.open(uri) as file:
        assert file.read() == source.read(1)


# ------------------------------------------------------------------------------------------------ cuts


def member_ends(data: bytes) -> list[tuple[str, int]]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return [(member.name, member.offset_data + member.size) for member in archive]


def test_a_shard_cut_anywhere_gives_its_whole_samples(make):
    whole = make.tar_bytes([(f"{n}.{e}", d) for n in range(4) for e, d in (("png", make.png(n)), ("cls", b"%d" % n))])
    ends = dict(member_ends(whole))
    samples = [max(ends[f"{n}.png"], ends[f"{n}.cls"]) for n in range(4)]
    for length in [
        *range(700, max(ends.values()), 337),
        *(end + extra for end in ends.values() for extra in (-1, 0, 1)),
    ]:
        want = sum(end <= length for end in samples)
        path = make.put("cut.tar", whole[:length])
        if not want and length < ends["0.png"]:
            with pytest.raises(SimcoreError, match="truncated"):
                open_images(path)
        if not want:  # with one sample alone, nothing tells that its label is missing
            continue
        with pytest.warns(SimcoreWarning, match=r"cut\.tar is incomplete: truncated"):
            source = open_images(path)
        assert source.labels.tolist() == list(range(want)), length
        assert [source.read(row) for row in range(want)] == [make.png(n) for n in range(want)]


def test_both_closing_blocks_are_asked_for(make):
    whole = make.tar_bytes(make.samples(2)).rstrip(b"\0")
    whole += b"\0" * (-len(whole) % 512)
    for blocks, complete in ((0, False), (1, False), (2, True), (20, True)):
        path = make.put("s.tar", whole + bytes(512 * blocks))
        assert (index_shard(str(path), path.stat().st_size).fault is None) == complete


def test_a_damaged_header_ends_the_shard(make):
    data = bytearray(make.tar_bytes(make.samples(4)))
    at = next(n for n in range(0, len(data), 512) if data[n : n + 7] == b"002.png")
    data[at + 130] ^= 0x05
    with pytest.warns(SimcoreWarning, match="damaged"):
        source = open_images(make.put("s.tar", bytes(data)))
    assert names(source) == ["000.png", "001.png"]


def test_three_shards_of_which_two_are_cut(make):
    whole = make.tar_bytes([(n, d) for n, d in make.samples(5)])
    starts = {}
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        starts = {member.name: member for member in archive}
    make.put("whole.tar", whole)
    make.put("cut_in_data.tar", whole[: starts["004.png"].offset_data + 100])
    make.put("cut_in_header.tar", whole[: starts["003.png"].offset + 200])
    with pytest.warns(SimcoreWarning) as told:
        source = open_images(make.root)
    assert len(told) == 2
    assert len(source) == 12
    assert source.labels.tolist() == [0, 1, 2, 3, 0, 1, 2, 0, 1, 2, 3, 4]
    assert [name for name, _ in source.notes.incomplete] == ["cut_in_data.tar", "cut_in_header.tar"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"<html>404</html>" * 100, "not a tar"),
        (b"\x1f\x8b\x08\0" + bytes(600), "gzip"),
        (b"\x28\xb5\x2f\xfd" + bytes(600), "zstd"),
        (bytes(1024), "no images"),
    ],
)
def test_what_is_no_shard_is_named(make, content, words):
    bad = make.put("bad.tar", content)
    with pytest.raises(SimcoreError, match=words):
        open_images(bad)


def test_a_bad_shard_among_good_ones_is_left_out(make):
    make.tar("a-0.tar", make.samples(2))
    make.put("a-1.tar", b"nothing")
    make.tar("a-3.tar", make.samples(1, start=9))
    with pytest.warns(SimcoreWarning) as told:
        source = open_images(f"{make.root}/a-{{0..3}}.tar")
    assert ids(source) == ["a-0.tar/000.png", "a-0.tar/001.png", "a-3.tar/009.png"]
    assert {str(line.message).partition(": ")[2] for line in told} == {
        "a-1.tar is incomplete: not a tar file",
        "a-2.tar is incomplete: missing file",
    }


def test_compressed_shards_are_refused_clearly(make):
    path = make.root / "s.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(make.put("a.png", make.png()), "a.png")
    with pytest.raises(SimcoreError, match="compressed with gzip"):
        open_images(path)


# ------------------------------------------------------------------------------------------------ writers


LONG = "deep/" * 60 + "x" * 120 + " é.png"


@pytest.mark.parametrize("fmt", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_unicode_names(make, fmt):
    members = [(LONG, make.png(1)), ("ünï.png", make.png(2)), ("a.png", make.png(3))]
    source = open_images(make.tar("s.tar", members, fmt=fmt))
    assert names(source) == [LONG, "ünï.png", "a.png"]
    assert [source.read(row) for row in range(3)] == [make.png(n) for n in (1, 2, 3)]


def test_a_ustar_prefix(make):
    name = "p" * 90 + "/" + "q" * 80 + ".png"
    source = open_images(make.tar("s.tar", [(name, make.png(1))]))
    assert names(source) == [name]


def test_tar_itself(make):
    for name in ("in/b/1.png", "in/a/2.png", "in/.hidden.png", "in/a/2.cls"):
        make.put(name, make.png(1) if name.endswith("png") else b"7")
    subprocess.run(["tar", "cf", make.root / "s.tar", "-C", make.root / "in", "."], check=True)
    source = open_images(make.root / "s.tar")
    assert sorted(names(source)) == ["a/2.png", "b/1.png"]
    assert source.notes.num_hidden == 1
    assert sorted(source.labels.tolist()) == [-1, 7]
    assert all(source.read(row) == make.png(1) for row in range(2))


def add(archive: tarfile.TarFile, name: str, data: bytes = b"", **fields: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    archive.addfile(info, io.BytesIO(data))


def test_folders_links_and_other_members(make):
    with tarfile.open(make.root / "s.tar", "w") as archive:
        add(archive, "d.png", type=tarfile.DIRTYPE)
        add(archive, "early.png", type=tarfile.SYMTYPE, linkname="through.png")
        add(archive, "through.png", type=tarfile.SYMTYPE, linkname="d.png/a.png")
        add(archive, "d.png/a.png", make.png(1))
        add(archive, "hard.png", type=tarfile.LNKTYPE, linkname="d.png/a.png")
        add(archive, "d.png/soft.png", type=tarfile.SYMTYPE, linkname="../d.png/a.png")
        add(archive, "second.png", type=tarfile.SYMTYPE, linkname="hard.png")
        add(archive, "fifo.png", type=tarfile.FIFOTYPE)
        add(archive, "last.png", make.png(2))
    source = open_images(make.root / "s.tar")
    told = ["d.png/a.png", "hard.png", "d.png/soft.png", "second.png", "last.png", "early.png", "through.png"]
    assert names(source) == told
    content = [make.png(2) if name == "last.png" else make.png(1) for name in told]
    assert [source.read(row) for row in range(7)] == content
    assert [data for _, data in source.scan(0, 7)] == content


@pytest.mark.parametrize("target", ["nowhere.png", "/etc/hostname", "../b.png", "ring.png", "lost.png"])
def test_a_link_to_nothing_in_the_shard_is_named(make, target):
    with tarfile.open(make.root / "s.tar", "w") as archive:
        add(archive, "lost.png", type=tarfile.SYMTYPE, linkname=target)
        add(archive, "lost.cls", type=tarfile.SYMTYPE, linkname=target)
        add(archive, "ring.png", type=tarfile.SYMTYPE, linkname="lost.png")
        add(archive, "a.png", make.png(1))
    source = open_images(make.root / "s.tar")
    assert names(source) == ["a.png", "lost.png", "ring.png"]
    assert source.read(0) == make.png(1)
    for row in (1, 2):
        with pytest.raises(Unreadable, match="missing file"):
            source.read(row)
    found = [data for _, data in source.scan(0, 3)]
    assert found[0] == make.png(1)
    assert all("missing file" in fault.reason for fault in found[1:])


def test_names_that_are_not_utf8(make):
    with tarfile.open(make.root / "s.tar", "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as archive:
        add(archive, "café.png", make.png(1))
    source = open_images(make.root / "s.tar")
    assert names(source) == ["caf%E9.png"]
    assert source.read(0) == make.png(1)


def test_binary_sizes(make):
    data = bytearray(make.tar_bytes([("a.png", make.png(1)), ("b.png", make.png(2))]))
    size = len(make.png(1))
    data[124:136] = bytes([0x80]) + size.to_bytes(11, "big")
    data[148:156] = b" " * 8
    data[148:156] = f"{sum(data[:512]):06o}\0 ".encode()
    assert names(open_images(make.put("s.tar", bytes(data)))) == ["a.png", "b.png"]


# ------------------------------------------------------------------------------------------------ samples


def test_members_in_any_order_are_paired(make):
    members = [(f"{n}.cls", b"%d" % n) for n in (2, 0, 1)] + [(f"{n}.png", make.png(n)) for n in (0, 1, 2)]
    source = open_images(make.tar("s.tar", members))
    assert dict(zip(names(source), source.labels.tolist(), strict=True)) == {"0.png": 0, "1.png": 1, "2.png": 2}


def test_one_image_a_sample(make):
    members = [
        ("0.png", make.png(0)), ("0.jpg", make.jpeg(0)), ("0.seg.png", make.png(9)), ("0.cls", b"1"),
        ("1.txt", b"a caption"), ("1.webp", make.encode(make.pixels(1), "WEBP")), ("1.json", b"{}"),
        ("2.JPEG", make.jpeg(2)), ("2.depth.png", make.png(9)),
        ("3.cls", b"1"),
    ]  # fmt: skip
    with pytest.warns(SimcoreWarning) as told:
        source = open_images(make.tar("s.tar", members))
    assert names(source) == ["0.jpg", "1.webp", "2.JPEG"]
    assert source.labels.tolist() == [1, -1, -1]
    lines = " ".join(str(line.message) for line in told)
    assert "1 samples hold more than one image" in lines
    assert "1 samples hold no image" in lines


def test_two_names_with_one_start_stay_two_samples(make):
    members = [("22.png", make.png(0)), ("22.cls", b"0"), ("22.05.png", make.png(1)), ("22.05.cls", b"1")]
    source = open_images(make.tar("s.tar", members))
    assert names(source) == ["22.png", "22.05.png"]
    assert source.labels.tolist() == [0, 1]


def test_an_image_of_unknown_extension_is_found_by_its_content(make):
    members = [("0.image", make.png(0)), ("0.cls", b"5"), ("1.bin", b"no image"), ("noext", make.jpeg(2))]
    source = open_images(make.tar("s.tar", members))
    assert names(source) == ["0.image", "noext"]
    assert source.labels.tolist() == [5, -1]


def test_a_member_written_twice_counts_once(make):
    members = [("0.png", make.png(0)), ("1.png", make.png(1)), ("0.png", make.png(7))]
    with pytest.warns(SimcoreWarning, match="listed already"):
        source = open_images(make.tar("s.tar", members))
    assert names(source) == ["0.png", "1.png"]
    assert source.read(0) == make.png(7)
    assert [data for _, data in source.scan(0, 2)] == [make.png(7), make.png(1)]


def test_equal_keys_in_different_shards_stay_apart(make):
    make.tar("a/s.tar", make.samples(1))
    make.tar("b/s.tar", make.samples(2))
    make.tar("b/t.tar", make.samples(1))
    source = open_images(f"{make.root}/{{a/s,b/s,b/t}}.tar")
    assert ids(source) == ["a/s.tar/000.png", "b/s.tar/000.png", "b/s.tar/001.png", "b/t.tar/000.png"]


@pytest.mark.parametrize(
    ("fields", "classes", "labels"),
    [
        ([("cls", b"3"), ("cls", b" 1\n")], ("0", "1", "2", "3"), [3, 1]),
        ([("cls", b"dog"), ("cls", b"cat")], ("cat", "dog"), [1, 0]),
        ([("cls", b"dog"), ("cls", b"")], ("dog",), [0, -1]),
        ([("cls", b"1"), ("cls", b"cat")], ("1", "cat"), [0, 1]),
        ([("txt", b"2"), ("txt", b"0\n")], ("0", "1", "2"), [2, 0]),
        ([("txt", b"a photo of 2 cats"), ("txt", b"1 dog")], (), [-1, -1]),
        ([("json", b'{"label": 1}'), ("json", b'{"label": 0}')], ("0", "1"), [1, 0]),
        ([("json", b'{"class_name": "x"}'), ("json", b'{"a": 1}')], ("x",), [0, -1]),
        ([("json", b"1"), ("json", b"not json")], ("0", "1"), [1, -1]),
        ([("json", b"1"), ("json", b"[" * 100_000)], ("0", "1"), [1, -1]),
        ([("json", json.dumps({"label": [1]}).encode()), ("json", b'{"label": true}')], (), [-1, -1]),
        ([("cls", b"-1"), ("cls", b"1")], ("0", "1"), [-1, 1]),
        ([("cls", "é".encode()), ("cls", b"\xe9")], ("%E9", "é"), [1, 0]),
    ],
)
def test_labels(make, fields, classes, labels):
    members = [m for n, (e, data) in enumerate(fields) for m in ((f"{n}.png", make.png(n)), (f"{n}.{e}", data))]
    source = open_images(make.tar("s.tar", members))
    assert source.classes == classes
    assert source.labels.tolist() == labels


def test_labels_are_numbered_over_all_shards(make):
    for n, label in enumerate(("b", "a", "c")):
        make.tar(f"s-{n}.tar", [("0.png", make.png(n)), ("0.cls", label.encode())])
    source = open_images(make.root)
    assert source.classes == ("a", "b", "c")
    assert source.labels.tolist() == [1, 0, 2]


def test_a_shard_that_shrank_after_listing(make):
    path = make.tar("s.tar", make.samples(3))
    source = open_images(path)
    path.write_bytes(path.read_bytes()[:3000])
    faults = [getattr(data, "reason", "") for _, data in source.scan(0, 3)]
    assert "truncated" in faults[2]
    path.unlink()
    assert [getattr(data, "reason", "") for _, data in source.scan(0, 3)] == ["missing file"] * 3


def test_the_fingerprint_notices_a_rewritten_shard(make):
    path = make.tar("s.tar", make.samples(3))
    first = open_images(path).fingerprint
    assert open_images(path).fingerprint == first
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(bytes(data))
    assert open_images(path).fingerprint != first


def test_the_real_shards(shared_data):
    source = open_images(shared_data / "cifar10")
    assert len(source) == 10_000
    assert np.bincount(source.labels).tolist() == [1000] * 10
