"""Folders: every image once, in the byte order of its path; what is passed over is counted."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest

from simcore.errors import SimcoreError, SimcoreWarning
from simcore.images import Unreadable, open_images
from simcore.images.names import unescape

COMPANION = struct.pack(">II16sH", 0x00051607, 0x00020000, b"Mac OS X        ", 1).ljust(4096, b"\0")


def ids(source) -> list[str]:
    return source.table["id"].to_pylist()


def test_a_flat_folder_is_listed_in_byte_order(make):
    for name in ("b.jpg", "a.jpg", "Z.jpg", "a-1.jpg", "é.jpg"):
        make.put(name, make.jpeg())
    source = open_images(make.root)
    assert ids(source) == ["Z.jpg", "a-1.jpg", "a.jpg", "b.jpg", "é.jpg"]
    assert source.classes == ()
    assert source.labels.tolist() == [-1] * 5
    assert source.table["label"].null_count == 5
    assert source.table.column_names == ["id", "uri", "label"]
    assert source.table["uri"][0].as_py() == str(make.root / "Z.jpg")


def test_nested_paths_are_in_the_byte_order_of_whole_paths(make):
    names = ["a/b.png", "a/c/d.png", "a.png", "a-b/x.png", "a/c.png", "ab.png"]
    for name in names:
        make.put(name, make.png())
    assert ids(open_images(f"folder:{make.root}")) == sorted(names, key=os.fsencode)


def test_a_camera_card(make):
    for number, name in enumerate(["IMG_0001.JPG", "IMG_0002.JPEG", "IMG_0003.jpg"]):
        make.put(f"DCIM/{name}", make.jpeg(number))
    make.put("DCIM/IMG_0004.Png", make.png(3))
    make.put("DCIM/._IMG_0001.JPG", COMPANION)
    make.put("DCIM/.DS_Store", b"\0\0\0\1Bud1")
    make.put("__MACOSX/DCIM/._IMG_0002.JPEG", COMPANION)
    odd = os.fsencode(make.root / "DCIM") + b"/caf\xe9_0005.jpg"
    Path(os.fsdecode(odd)).write_bytes(make.jpeg(4))
    source = open_images(make.root)
    assert len(source) == len(set(ids(source))) == 5
    assert source.notes.num_hidden == 3
    assert [source.decode(row).width for row in range(5)] == [32] * 5
    assert ids(source)[4] == "DCIM/caf%E9_0005.jpg"
    assert os.fsencode(unescape(source.table["uri"][4].as_py())) == odd
    assert ids(open_images(make.root)) == ids(source)


def test_names_that_look_escaped_stay_apart(make):
    make.put("50%20.png", make.png(1))
    make.put("50 .png", make.png(2))
    make.put("100%.png", make.png(3))
    source = open_images(make.root)
    assert ids(source) == ["100%.png", "50 .png", "50%2520.png"]
    assert np.array_equal(source.decode(2).pixels, make.pixels(1))


@pytest.mark.parametrize("name", ["Thumbs.db", "desktop.ini", ".hidden/x.png", "@eaDir/x.png", ".git/a/b/c.png"])
def test_system_files_are_hidden(make, name):
    make.put("a.png", make.png())
    make.put(name, b"x")
    source = open_images(make.root)
    assert ids(source) == ["a.png"]
    assert source.notes.num_hidden == 1


def test_other_files_are_passed_over_and_counted(make):
    make.put("a/1.png", make.png())
    for name in ("a/1.txt", "a/1.json", "labels.csv", "README", "a/backup.png~", "a/readme.xyz"):
        make.put(name, b"no image")
    source = open_images(make.root)
    assert ids(source) == ["a/1.png"]
    assert source.notes.num_other == 6


def test_an_image_without_a_known_extension_is_found_by_its_content(make):
    for name, fmt in (("noext", "JPEG"), ("img.dat", "PNG"), ("photo.jpg.1", "GIF"), ("x.unknown", "WEBP")):
        make.put(name, make.encode(make.pixels(), fmt))
    assert ids(open_images(f"folder:{make.root}")) == ["img.dat", "noext", "photo.jpg.1", "x.unknown"]


def test_one_class_a_folder(make):
    for name in ("b/1.png", "a/1.png", "a/deep/2.png", "10/1.png", "9/1.png"):
        make.put(name, make.png())
    source = open_images(make.root)
    assert source.classes == ("10", "9", "a", "b")
    assert source.labels.tolist() == [0, 1, 2, 2, 3]


def test_images_beside_class_folders_have_no_label(make):
    make.put("a/1.png", make.png())
    make.put("loose.png", make.png())
    source = open_images(make.root)
    assert source.labels.tolist() == [0, -1]
    assert source.table["label"].to_pylist() == [0, None]


def rotated(make) -> None:
    for name in ("0", "90", "180", "270"):
        for number in range(4):
            make.put(f"train/{name}/{number}.png", make.png())
            if name != "180":
                make.put(f"test/{name}/{number}.png", make.png())
    (make.root / "train/135").mkdir()


def test_splits_share_the_class_table(make):
    rotated(make)
    with pytest.warns(SimcoreWarning, match="'135'"):
        train = open_images(make.root)
    test = open_images(f"{make.root}#split=test")
    assert train.classes == test.classes == ("0", "180", "270", "90")
    assert (len(train), len(test)) == (16, 12)
    assert test.labels.tolist() == [0] * 4 + [2] * 4 + [3] * 4
    assert ids(test)[0] == "test/0/0.png"
    assert train.notes.empty_classes == ("135",)
    assert test.notes.empty_classes == ()
    assert len(open_images(make.root, split="test")) == 12
    with pytest.warns(SimcoreWarning):
        assert len(open_images(make.root, split="all")) == 28


def test_classes_that_only_the_test_split_has_come_last(make):
    for name in ("train/b/1.png", "train/c/1.png", "test/a/1.png", "test/c/1.png"):
        make.put(name, make.png())
    assert open_images(make.root).classes == ("b", "c", "a")
    assert open_images(make.root / "train").classes == ("b", "c")
    assert open_images(f"{make.root}#split=test").labels.tolist() == [2, 1]


@pytest.mark.parametrize(
    ("folders", "wanted", "first"),
    [
        (("train2017", "val2017", "annotations"), "train", "train2017"),
        (("Train", "Test"), "test", "Test"),
        (("training", "validation"), "test", "validation"),
        (("train", "val", "test"), "test", "test"),
        (("train_images", "test_images"), "train", "train_images"),
    ],
)
def test_split_folders_under_other_names(make, folders, wanted, first):
    for folder in folders:
        make.put(f"{folder}/1.png" if folder != "annotations" else "annotations/a.json", make.png())
    assert ids(open_images(make.root, split=wanted)) == [f"{first}/1.png"]


def test_a_class_called_train_is_no_split(make):
    for name in ("bus", "train", "truck"):
        make.put(f"{name}/1.png", make.png())
    source = open_images(make.root)
    assert source.classes == ("bus", "train", "truck")
    assert len(source) == 3


def test_a_missing_split_is_named(make):
    make.put("train/1.png", make.png())
    for where in (f"{make.root}#split=test", f"{make.root}#split=val"):
        with pytest.raises(SimcoreError, match="it has train"):
            open_images(where)
    with pytest.raises(SimcoreError, match="has no split 'test'"):
        open_images(make.root, split="test")
    with pytest.raises(SimcoreError, match="no split folders"):
        make.put("flat/1.png", make.png())
        open_images(f"{make.root / 'flat'}#split=train")


def test_missing_and_empty_folders(make):
    with pytest.raises(SimcoreError, match="no such file or folder"):
        open_images(make.root / "nowhere")
    make.put("empty/.DS_Store", b"x")
    make.put("empty/notes.txt", b"x")
    with pytest.raises(SimcoreError, match="1 hidden and 1 other"):
        open_images(make.root / "empty")


def test_links(make):
    make.put("real/a.png", make.png())
    (make.root / "root/deep").mkdir(parents=True)
    (make.root / "root/linked").symlink_to(make.root / "real")
    (make.root / "root/deep/loop").symlink_to(make.root / "root")
    (make.root / "root/deep/self").symlink_to(make.root / "root/deep/self")
    (make.root / "root/file.png").symlink_to(make.root / "real/a.png")
    (make.root / "root/gone.png").symlink_to(make.root / "nowhere.png")
    with pytest.warns(SimcoreWarning, match="deep/loop"):
        source = open_images(make.root / "root")
    assert ids(source) == ["file.png", "gone.png", "linked/a.png"]
    with pytest.raises(Unreadable, match="missing file"):
        source.read(1)


def test_pipes_do_not_hang(make):
    make.put("a.png", make.png())
    os.mkfifo(make.root / "pipe.png")
    source = open_images(make.root)
    assert ids(source) == ["a.png"]
    listed = make.put("list.txt", b"pipe.png\na.png\n")
    with pytest.raises(Unreadable, match="not a regular file"):
        open_images(listed).read(0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_named(make):
    make.put("closed/a.png", make.png())
    make.put("open/b.png", make.png()).chmod(0)
    (make.root / "closed").chmod(0)
    with pytest.warns(SimcoreWarning, match="closed is incomplete: permission denied"):
        source = open_images(make.root)
    with pytest.raises(Unreadable, match="permission denied"):
        source.read(0)


def test_ways_to_write_the_root(make, monkeypatch):
    make.put("data/a/1.png", make.png())
    want = open_images(make.root / "data").table
    monkeypatch.chdir(make.root / "data")
    for where in (".", "./", "../data", f"{make.root}/data/", f"{make.root}/data/a/..", f"file://{make.root}/data"):
        assert open_images(where).table.equals(want), where
    monkeypatch.setenv("HOME", str(make.root))
    assert open_images("~/data").table.equals(want)


@pytest.mark.parametrize(
    "name", ["new\nline.png", "tab\t.png", " blank .png", "猫🐈.png", "a'b\"c.png", "-x.png", "a;b,c.png"]
)
def test_odd_names_are_read_back(make, name):
    make.put(f"d/{name}", make.png(7))
    source = open_images(make.root / "d")
    assert ids(source) == [name]
    assert source.read(0) == make.png(7)
    assert Path(unescape(source.table["uri"][0].as_py())).read_bytes() == make.png(7)


def test_a_single_image_is_a_source(make):
    path = make.put("some.where/photo.JPG", make.jpeg())
    assert ids(open_images(path)) == ["photo.JPG"]
    other = make.put("unnamed", make.png())
    assert ids(open_images(other)) == ["unnamed"]


def test_the_fingerprint_notices_change(make):
    path = make.put("a/1.png", make.png(1))
    make.put("a/2.png", make.png(2))
    first = open_images(make.root).fingerprint
    assert open_images(make.root).fingerprint == first
    os.utime(path, ns=(1, 1))
    touched = open_images(make.root).fingerprint
    make.put("a/3.png", make.png(3))
    grown = open_images(make.root).fingerprint
    (make.root / "a").rename(make.root / "b")
    renamed = open_images(make.root).fingerprint
    assert len({first, touched, grown, renamed}) == 4
