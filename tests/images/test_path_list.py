"""Lists: text and CSV files as people write them."""

from __future__ import annotations

import unicodedata

import pytest

from simcore.errors import SimcoreError, SimcoreWarning
from simcore.images import Unreadable, open_images
from simcore.images.path_list import Entry, parse_csv, parse_lines


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("a.jpg\nb.png\n", [Entry("a.jpg"), Entry("b.png")]),
        ("a.jpg\r\n\r\n  b.png  \r\n", [Entry("a.jpg"), Entry("b.png")]),
        ("a.jpg 0\nb.png 11", [Entry("a.jpg", "0"), Entry("b.png", "11")]),
        ("a.jpg\tred car\n", [Entry("a.jpg", "red car")]),
        ("my photo 1.jpg\n", [Entry("my photo 1.jpg")]),
        ("my photo 1.jpg 7\n", [Entry("my photo 1.jpg", "7")]),
        ("a.jpg, 7\n", [Entry("a.jpg", "7")]),
        ("noextension\n", [Entry("noextension")]),
        ('"a b.jpg"\n', [Entry("a b.jpg")]),
        ("http://x/y.jpg\n", [Entry("http://x/y.jpg")]),
    ],
)
def test_lines(text, entries):
    assert parse_lines(text) == entries


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("path,label\na.jpg,red\n", [Entry("a.jpg", "red")]),
        ("a.jpg,red\n", [Entry("a.jpg", "red")]),
        ("a.jpg\nb.jpg\n", [Entry("a.jpg"), Entry("b.jpg")]),
        ('Filename;Class\r\n"a;b.jpg";"red ""car"""\r\n', [Entry("a;b.jpg", 'red "car"')]),
        ("id\tlabel\timage_path\n1\t3\ta.jpg\n", [Entry("a.jpg", "3")]),
        ('label,file_name\n1,"with, comma.jpg"\n2,b.jpg\n', [Entry("with, comma.jpg", "1"), Entry("b.jpg", "2")]),
        ("image,label\na.jpg,\n\n,,\nb.jpg,1\n", [Entry("a.jpg"), Entry("b.jpg", "1")]),
        ("filepath,label,split\na.jpg,1,train\n", [Entry("a.jpg", "1", "train")]),
        ("3,a.jpg\n4,b.jpg\n", [Entry("a.jpg", "3"), Entry("b.jpg", "4")]),
        ("Image Path,Class Name\na.jpg,x\n", [Entry("a.jpg", "x")]),
        ("Kaggle Thing,label\na.jpg,x\nb.jpg,y\n", [Entry("a.jpg", "x"), Entry("b.jpg", "y")]),
        ("x1,x2\n", [Entry("x1", "x2")]),
        ("filename,label\nphoto.jpg,x\n", [Entry("photo.jpg", "x")]),
        ("", []),
    ],
)
def test_tables(text, entries):
    assert parse_csv(text) == entries


def test_ids_are_as_written_and_labels_keep_their_number(make):
    make.put("data/a b.png", make.png(1))
    make.put("data/sub/c.png", make.png(2))
    where = make.put("data/list.csv", b"path,label\na b.png,4\nsub/c.png,0\n")
    source = open_images(where)
    assert source.table["id"].to_pylist() == ["a b.png", "sub/c.png"]
    assert source.labels.tolist() == [4, 0]
    assert source.classes == ("0", "1", "2", "3", "4")
    assert source.table["uri"][1].as_py() == str(make.root / "data/sub/c.png")
    assert source.read(1) == make.png(2)


def test_relative_paths_start_at_the_list_whatever_the_current_folder(make, monkeypatch, tmp_path_factory):
    make.put("data/a.png", make.png(1))
    make.put("data/list.txt", b"a.png\n")
    monkeypatch.chdir(make.root)
    source = open_images("data/list.txt")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert source.read(0) == make.png(1)


def test_missing_files_are_rows_that_do_not_read(make):
    make.put("a.png", make.png())
    source = open_images(make.put("list.txt", b"gone.png\na.png\nsub\n"))
    assert len(source) == 3
    (make.root / "sub").mkdir()
    for row, words in ((0, "missing file"), (2, "a folder")):
        with pytest.raises(Unreadable, match=words):
            source.read(row)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_encodings(make, encoding):
    name = "café.png"
    stored = name.encode("latin-1") if encoding == "latin-1" else name.encode()
    (make.root / stored.decode("utf-8", "surrogateescape")).write_bytes(make.png(3))
    where = make.put("list.csv", f"path,label\n{name},chat\n".encode(encoding))
    source = open_images(where)
    assert source.read(0) == make.png(3)
    assert source.table["id"][0].as_py() == ("caf%E9.png" if encoding == "latin-1" else name)


@pytest.mark.parametrize(("listed", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_either_unicode_form_finds_the_file(make, listed, stored):
    make.put(unicodedata.normalize(stored, "é/ñandú.png"), make.png(4))
    where = make.put("list.txt", unicodedata.normalize(listed, "é/ñandú.png").encode())
    assert open_images(where).read(0) == make.png(4)


def test_backslashes_and_file_urls(make):
    make.put("sub/a.png", make.png(1))
    where = make.put("list.txt", f"sub\\a.png\nfile://{make.root}/sub/a.png\n{make.root}/sub/a.png\n".encode())
    source = open_images(where)
    assert [source.read(row) for row in range(3)] == [make.png(1)] * 3


def test_a_repeated_path_is_left_out_and_counted(make):
    make.put("a.png", make.png())
    make.put("b.png", make.png())
    with pytest.warns(SimcoreWarning, match="1 entries"):
        source = open_images(make.put("list.txt", b"b.png\na.png\nb.png\n"))
    assert source.table["id"].to_pylist() == ["b.png", "a.png"]
    assert source.notes.num_repeated == 1


def test_mixed_labels_are_text(make):
    where = make.put("list.csv", b"path,label\na.png,1\nb.png,two\nc.png,\n")
    source = open_images(where)
    assert source.classes == ("1", "two")
    assert source.labels.tolist() == [0, 1, -1]


def test_negative_and_huge_integers(make):
    source = open_images(make.put("list.csv", b"path,label\na.png,-1\nb.png,3\n"))
    assert source.labels.tolist() == [-1, 3]
    source = open_images(make.put("ids.csv", b"path,label\na.png,900000000\nb.png,20000000\n"))
    assert source.classes == ("20000000", "900000000")
    assert source.labels.tolist() == [1, 0]


def test_a_split_column(make):
    where = make.put("list.csv", b"path,label,split\na.png,1,train\nb.png,0,test\nc.png,1,train\n")
    assert open_images(where).table["id"].to_pylist() == ["a.png", "c.png"]
    assert open_images(f"{where}#split=test").table["id"].to_pylist() == ["b.png"]
    assert len(open_images(where, split="all")) == 3
    with pytest.raises(SimcoreError, match="it has test, train"):
        open_images(f"{where}#split=val")


@pytest.mark.parametrize("content", [b"", b"\n\n", b"path,label\n"])
def test_an_empty_list_is_an_error(make, content):
    with pytest.raises(SimcoreError, match="names no images"):
        open_images(make.put("list.csv", content))
