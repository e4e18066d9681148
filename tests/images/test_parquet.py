"""Parquet tables: layouts, nulls, labels, damage."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simcore.errors import SimcoreError, SimcoreWarning
from simcore.images import ImageFault, Refused, Unreadable, open_images, row_groups

BIG = pa.struct([("bytes", pa.large_binary()), ("path", pa.large_string())])
SMALL = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def outcomes(source) -> list[bytes | str]:
    return [data.reason if isinstance(data, ImageFault) else data for _, data in source.scan(0, len(source))]


def test_nulls_paths_and_empty_bytes(make, monkeypatch, tmp_path_factory):
    make.put("t/img/b.png", make.png(1))
    rows = [
        {"bytes": make.png(0), "path": "a.png"},
        {"bytes": None, "path": "img/b.png"},
        {"bytes": None, "path": "/nonexistent/gone.png"},
        None,
        {"bytes": b"", "path": None},
        {"bytes": make.png(5), "path": None},
        {"bytes": None, "path": None},
        {"bytes": None, "path": ""},
    ]
    make.table("t/mixed.parquet", {"image": pa.array(rows, SMALL), "label": list(range(8))})
    monkeypatch.chdir(make.root)
    source = open_images("t/mixed.parquet")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    found = outcomes(source)
    assert [found[row] for row in (0, 1, 5)] == [make.png(n) for n in (0, 1, 5)]
    assert source.labels.tolist() == list(range(8))
    for row, words in ((2, "missing file"), (3, "null"), (6, "null bytes"), (7, "null bytes")):
        assert words in found[row]
    with pytest.raises(Unreadable, match="empty"):
        source.decode(4)
    assert source.table["id"][3].as_py() == "mixed.parquet#3"
    assert source.table["uri"][3].as_py() == f"{make.root}/t/mixed.parquet#row=3"


@pytest.mark.parametrize("path", ["b.png", "./b.png", "../t/b.png", "{root}/t/b.png", "file://{root}/t/b.png"])
def test_ways_to_write_a_path(make, path):
    make.put("t/b.png", make.png(1))
    rows = [{"bytes": None, "path": path.format(root=make.root)}]
    assert outcomes(open_images(make.table("t/t.parquet", {"image": pa.array(rows, SMALL)}))) == [make.png(1)]


def test_large_binary_over_row_groups(make):
    rows = [{"bytes": make.png(n), "path": f"{n}.png"} for n in (2, 3, 4)]
    path = make.table("big.parquet", {"image": pa.array(rows, BIG), "label": [2, 3, 4]}, row_group_size=2)
    source = open_images(path)
    assert outcomes(source) == [make.png(n) for n in (2, 3, 4)]
    assert source.labels.tolist() == [2, 3, 4]


@pytest.mark.parametrize("kind", ["binary", "large_binary", "struct", "dictionary", "path", "bytes only", "swapped"])
def test_layouts_of_the_image_column(make, kind):
    data = [make.png(0), make.png(1)]
    for n, each in enumerate(data):
        make.put(f"{n}.png", each)
    column = {
        "binary": pa.array(data, pa.binary()),
        "large_binary": pa.array(data, pa.large_binary()),
        "struct": make.structs([0, 1]),
        "dictionary": pa.array(data).dictionary_encode(),
        "path": pa.array(["0.png", "1.png"]),
        "bytes only": pa.array([{"bytes": each} for each in data]),
        "swapped": pa.array(
            [{"path": None, "bytes": each} for each in data],
            pa.struct([("path", pa.string()), ("bytes", pa.binary()), ("extra", pa.int8())]),
        ),
    }[kind]
    path = make.table("t.parquet", {"number": [1, 2], "image": column, "text": ["a", "b"]})
    assert outcomes(open_images(path)) == data


@pytest.mark.parametrize("name", ["image", "img", "jpg", "png", "picture", "whatever"])
def test_names_of_the_image_column(make, name):
    path = make.table("t.parquet", {"id": ["x"], name: make.structs([3]), "thumbnail": make.structs([4])})
    assert outcomes(open_images(path)) == [make.png(3)]


def test_the_declared_image_column_is_taken_first(make):
    features = {"photo": {"_type": "Image"}, "image": {"_type": "Value", "dtype": "binary"}}
    path = make.table("t.parquet", {"image": [b"x"], "photo": make.structs([3])}, features)
    assert outcomes(open_images(path)) == [make.png(3)]


@pytest.mark.parametrize("columns", [{"a": [1, 2]}, {"image": [[b"a"], [b"b"]]}, {"text": ["x", "y"]}])
def test_a_table_without_images_is_named(make, columns):
    with pytest.raises(SimcoreError, match="no image column among"):
        open_images(make.table("t.parquet", columns))


@pytest.mark.parametrize(
    ("labels", "classes", "numbers"),
    [
        (pa.array([2, 0, None]), ("0", "1", "2"), [2, 0, -1]),
        (pa.array([1, 0, 1], pa.int8()), ("0", "1"), [1, 0, 1]),
        (pa.array([1, 0, 1], pa.uint64()), ("0", "1"), [1, 0, 1]),
        (pa.array(["b", "a", None]), ("a", "b"), [1, 0, -1]),
        (pa.array(["10", "9", "10"]), ("10", "9"), [0, 1, 0]),
        (pa.array(["b", "a", "b"]).dictionary_encode(), ("a", "b"), [1, 0, 1]),
        (pa.array(["b", "a", "b"], pa.large_string()), ("a", "b"), [1, 0, 1]),
        (pa.array([2.0, 0.0, float("nan")]), ("0", "1", "2"), [2, 0, -1]),
        (pa.array([True, False, None]), ("0", "1"), [1, 0, -1]),
        (pa.array([-1, 0, 1]), ("0", "1"), [-1, 0, 1]),
        (pa.array([[1], [2], [3]]), (), [-1, -1, -1]),
        (pa.nulls(3, pa.int64()), (), [-1, -1, -1]),
    ],
)
def test_labels(make, labels, classes, numbers):
    source = open_images(make.table("t.parquet", {"image": make.structs(range(3)), "label": labels}))
    assert source.labels.tolist() == numbers
    assert source.classes == classes


def test_class_names_come_from_the_features(make):
    features = {"image": {"_type": "Image"}, "fine_label": {"_type": "ClassLabel", "names": ["cat", "dog", "eel"]}}
    columns = {"image": make.structs(range(3)), "coarse_label": [9, 9, 9], "fine_label": [1, 0, 1]}
    source = open_images(make.table("t.parquet", columns, features))
    assert source.classes == ("cat", "dog", "eel")
    assert source.labels.tolist() == [1, 0, 1]
    assert open_images(f"{make.root}/t.parquet#classes=dog").labels.tolist() == [1, 1]


def test_tables_that_name_classes_in_another_order_are_matched_by_name(make):
    for n, names in enumerate((["cat", "dog"], ["dog", "cat", "eel"])):
        features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
        make.table(f"t-{n}.parquet", {"image": make.structs(range(3)), "label": [0, 1, -1]}, features)
    source = open_images(make.root)
    assert source.classes == ("cat", "dog", "eel")
    assert source.labels.tolist() == [0, 1, -1, 1, 0, -1]


def test_text_and_integer_labels_in_one_set(make):
    make.table("a.parquet", {"image": make.structs([0]), "label": ["cat"]})
    make.table("b.parquet", {"image": make.structs([1]), "label": [1]})
    make.table("c.parquet", {"image": make.structs([2])})
    source = open_images(make.root)
    assert [source.classes[label] if label >= 0 else None for label in source.labels] == ["cat", "1", None]


def test_damaged_tables_are_named_and_the_others_kept(make):
    whole = make.table("a.parquet", {"image": make.structs(range(3))}).read_bytes()
    make.put("b.parquet", whole[: len(whole) // 2])
    make.put("c.parquet", b"")
    make.put("d.parquet", b"<html>")
    make.put("e.parquet", whole[:-8] + b"\xff\xff\xff\x7fPAR1")
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    make.put("f.parquet", whole[:footer] + b"\xff" * 16 + whole[footer + 16 :])
    make.table("g.parquet", {"image": make.structs([7])})
    make.table("h.parquet", {"image": make.structs([])})
    make.table("i.parquet", {"x": [1]})
    with pytest.warns(SimcoreWarning):
        source = open_images(make.root)
    assert source.table["id"].to_pylist() == ["a.parquet#0", "a.parquet#1", "a.parquet#2", "g.parquet#0"]
    reasons = dict(source.notes.incomplete)
    assert sorted(reasons) == ["b.parquet", "c.parquet", "d.parquet", "e.parquet", "f.parquet", "i.parquet"]
    for name, words in (("b", "truncated"), ("c", "empty"), ("d", "not a Parquet"), ("e", "damaged"), ("f", "damaged")):
        assert words in reasons[f"{name}.parquet"]
    with pytest.raises(SimcoreError, match="truncated"):
        open_images(make.root / "b.parquet")
    with pytest.raises(SimcoreError, match="no images in it"):
        open_images(make.root / "h.parquet")


def test_a_damaged_row_group_fails_alone(make):
    seeds = range(6)
    path = make.table("t.parquet", {"image": make.structs(seeds)}, row_group_size=2, compression="snappy")
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(bytes(data))
    found = outcomes(open_images(path))
    assert [n for n in seeds if found[n] == make.png(n)] == [0, 1, 4, 5]
    assert "damaged" in found[2]


def test_limits_hold_for_rows(make):
    import dataclasses

    from simcore.images import Limits

    source = open_images(make.table("t.parquet", {"image": make.structs([0])}))
    with pytest.raises(Refused, match="max_bytes"):
        dataclasses.replace(source, limits=Limits(max_bytes=10)).read(0)


@pytest.fixture
def groups_read(monkeypatch) -> list[tuple[int, int]]:
    """Which (table, row group) was opened for reading, in order."""
    read: list[tuple[int, int]] = []
    original = row_groups.ParquetReader._pieces

    def noted(self, unit, group):
        read.append((unit, group))
        return original(self, unit, group)

    monkeypatch.setattr(row_groups.ParquetReader, "_pieces", noted)
    return read


def test_row_groups_are_read_once_in_a_row(make, groups_read):
    path = make.table("t.parquet", {"image": make.structs(range(20))}, row_group_size=5)
    source = open_images(path)
    assert len(outcomes(source)) == 20
    assert groups_read == [(0, 0), (0, 1), (0, 2), (0, 3)]
    for row in np.random.default_rng(0).permutation(20).tolist():
        source.read(row)
    assert len(groups_read) == 4
    pickle.loads(pickle.dumps(source)).read(0)
    assert len(groups_read) == 5


def test_what_is_kept_is_bounded(make, monkeypatch):
    bound = 3 * len(make.png(0))
    path = make.table("t.parquet", {"image": make.structs(range(20))}, row_group_size=1)
    source = open_images(path)
    monkeypatch.setattr(row_groups, "KEPT_BYTES", bound)
    assert len(outcomes(source)) == 20
    assert source.readers[0]._kept.nbytes <= bound


def test_a_huge_row_group_is_read_in_pieces(make, monkeypatch, groups_read):
    path = make.table("t.parquet", {"n": list(range(50)), "image": make.structs(range(50))}, row_group_size=30)
    monkeypatch.setattr(row_groups, "PIECE_BYTES", 4 * len(make.png(0)))
    monkeypatch.setattr(row_groups, "KEPT_BYTES", 9 * len(make.png(0)))
    source = open_images(path)
    assert max(group.piece for group in source.readers[0].groups[0]) <= 6
    assert outcomes(source) == [make.png(n) for n in range(50)]
    assert groups_read == [(0, 0), (0, 1)]
    for row in (3, 29, 2, 49, 30, 31, 0):
        assert source.read(row) == make.png(row)


def test_threads_may_share_a_source(make, monkeypatch):
    monkeypatch.setattr(row_groups, "KEPT_BYTES", 1)
    source = open_images(make.table("t.parquet", {"image": make.structs(range(40))}, row_group_size=3))
    rows = np.random.default_rng(1).integers(0, 40, 400).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(source.read, rows)) == [make.png(row) for row in rows]


def test_tables_of_one_name_in_several_folders(make):
    make.table("a/t.parquet", {"image": make.structs([0])})
    make.table("b/t.parquet", {"image": make.structs([1])})
    source = open_images(make.root)
    assert source.table["id"].to_pylist() == ["a/t.parquet#0", "b/t.parquet#0"]
    assert outcomes(source) == [make.png(0), make.png(1)]


def test_the_real_tables(shared_data):
    train = open_images(shared_data / "tiny-imagenet")
    val = open_images(f"{shared_data}/tiny-imagenet#split=val")
    assert (len(train), len(val)) == (60_000, 10_000)
    assert np.bincount(val.labels).tolist() == [50] * 200
    assert train.decode(59_999).pixels.shape == (64, 64, 3)
