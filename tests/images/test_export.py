"""Exported sets open again as sources with the same rows, in the same order, with the same bytes and classes."""

from __future__ import annotations

import csv
import dataclasses
import errno
import io
import json
import os
import tarfile
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from simcore.artifacts import Selection
from simcore.errors import SimcoreError, SimcoreWarning, UsageError
from simcore.images import open_images, open_uris
from simcore.images.export import export_images, extension_of
from simcore.images.export_files import FolderNames, safe_name

FORMATS = ("folder", "wds", "parquet")


def encoded(number, kind="JPEG"):
    held = io.BytesIO()
    Image.new("RGB", (9, 7), (number * 7 % 255, 80, 255 - number)).save(held, kind)
    return held.getvalue()


@pytest.fixture
def pool(tmp_path):
    """Nine pictures of three classes, one a PNG named .jpg, in a folder."""
    for number in range(9):
        path = tmp_path / "pool" / ("cat", "dog", "F-16 A")[number % 3] / f"pic {number}.v1.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(number, "PNG" if number == 4 else "JPEG"))
    return open_images(tmp_path / "pool")


def selection_of(images, rows):
    rows = np.asarray(rows, np.int64)
    table = images.table.take(pa.array(rows))
    return Selection(
        indices=rows,
        rounds=np.arange(1, len(rows) + 1, dtype=np.int32),
        clusters=np.arange(len(rows), dtype=np.int32) + 50,
        similarities=np.linspace(0.9, 0.5, len(rows)).astype(np.float32),
        stop_reason="budget",
        ids=tuple(table["id"].to_pylist()),
        uris=tuple(table["uri"].to_pylist()),
        labels=images.labels[rows],
        classes=images.classes,
    )


def content(source):
    """Bytes and class name of each row, in order."""
    names = [source.classes[label] if label >= 0 else None for label in source.labels]
    return [(source.read(row), name) for row, name in enumerate(names)]


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("format", FORMATS)
def test_picks_come_back_in_order(format, pool, tmp_path):
    selection = selection_of(pool, [7, 2, 4, 0, 5])
    summary = export_images(pool, selection, out=tmp_path / "out", format=format, quiet=True)
    assert summary.num_images == 5
    assert summary.num_bytes == sum(len(pool.read(row)) for row in (7, 2, 4, 0, 5))
    back = open_images(summary.source)
    assert content(back) == content(pool.take(selection))


@pytest.mark.parametrize("format", FORMATS)
def test_picks_opened_by_their_uris_export_alike(format, pool, tmp_path):
    selection = selection_of(pool, [7, 2, 4])
    export_images(pool, selection, out=tmp_path / "a", format=format, quiet=True)
    export_images(open_uris(selection), selection, out=tmp_path / "b", format=format, quiet=True)
    a, b = files(tmp_path / "a"), files(tmp_path / "b")
    assert {k: v for k, v in a.items() if k != ".export.json"} == {k: v for k, v in b.items() if k != ".export.json"}


@pytest.mark.parametrize("format", FORMATS)
def test_a_whole_source_without_a_selection(format, pool, tmp_path):
    summary = export_images(pool, out=tmp_path / "out", format=format, quiet=True)
    assert content(open_images(summary.source)) == content(pool)


@pytest.mark.parametrize("format", FORMATS)
def test_a_folder_without_labels(format, tmp_path):
    (tmp_path / "flat").mkdir()
    for number in range(3):
        (tmp_path / "flat" / f"{number}.jpg").write_bytes(encoded(number))
    flat = open_images(tmp_path / "flat")
    summary = export_images(flat, selection_of(flat, [2, 0]), out=tmp_path / "out", format=format, quiet=True)
    back = open_images(summary.source)
    assert content(back) == [(encoded(2), None), (encoded(0), None)]
    assert back.classes == ()


@pytest.mark.parametrize("first", FORMATS)
@pytest.mark.parametrize("second", FORMATS)
def test_an_export_of_an_export(first, second, pool, tmp_path):
    one = export_images(pool, selection_of(pool, [8, 1, 4]), out=tmp_path / "one", format=first, quiet=True)
    two = export_images(open_images(one.source), out=tmp_path / "two", format=second, quiet=True)
    assert content(open_images(two.source)) == content(pool.take([8, 1, 4]))


def test_integer_classes_keep_their_numbers_and_absent_classes_their_place(tmp_path):
    image = pa.array([{"bytes": encoded(n), "path": f"{n}.jpg"} for n in range(4)])
    pq.write_table(pa.table({"image": image, "label": pa.array([3, 0, 11, None])}), tmp_path / "x.parquet")
    source = open_images(tmp_path / "x.parquet")
    for format in FORMATS:
        out = export_images(source, selection_of(source, [2, 3, 0]), out=tmp_path / format, format=format, quiet=True)
        assert content(open_images(out.source)) == content(source.take([2, 3, 0]))
    for format in ("wds", "parquet"):
        assert open_images(tmp_path / format).labels.tolist() == [11, -1, 3]
        assert open_images(tmp_path / format).classes == source.classes


def test_rows_that_jump_about_in_tables_read_each_piece_once(tmp_path, monkeypatch):
    from simcore.images.row_groups import ParquetReader

    image = pa.array([{"bytes": encoded(n), "path": None} for n in range(40)])
    for name in "ab":
        table = pa.table({"image": image, "label": pa.array(range(40))})
        pq.write_table(table, tmp_path / f"{name}.parquet", row_group_size=10)
    source = open_images(tmp_path / "[ab].parquet")
    rows = np.random.default_rng(0).permutation(80)
    asked, read = [], ParquetReader.read
    monkeypatch.setattr(
        ParquetReader, "read", lambda self, place, limits: asked.append(place) or read(self, place, limits)
    )
    summary = export_images(source, selection_of(source, rows), out=tmp_path / "out", format="parquet", quiet=True)
    assert [(place.unit, place.first) for place in asked] == [(u, n) for u in range(2) for n in range(40)]
    assert content(open_images(summary.source)) == content(source.take(rows))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [".export.json", "data-00000-of-00001.parquet"]


def test_the_folder_names_fit_class_rank_and_content(pool, tmp_path):
    rows = [pool.table["id"].to_pylist().index(f"{name}.v1.jpg") for name in ("dog/pic 7", "F-16 A/pic 2", "dog/pic 4")]
    selection = selection_of(pool, rows)
    export_images(pool, selection, out=tmp_path / "out", quiet=True)
    right = ["dog/000000_pic_7.v1.jpg", "F-16 A/000001_pic_2.v1.jpg", "dog/000002_pic_4.v1.png"]
    assert sorted(files(tmp_path / "out")) == sorted([*right, "manifest.csv", ".export.json"])
    with (tmp_path / "out" / "manifest.csv").open(newline="") as file:
        listed = list(csv.DictReader(file))
    assert [row["path"] for row in listed] == right
    assert [(row["rank"], row["round"], row["cluster"], row["id"]) for row in listed] == [
        (str(n), str(n + 1), str(n + 50), id) for n, id in enumerate(selection.ids)
    ]
    assert [float(row["similarity"]) for row in listed] == pytest.approx([0.9, 0.7, 0.5])


def test_the_folder_itself_opens_by_class(pool, tmp_path):
    export_images(pool, selection_of(pool, [7, 2, 4, 0]), out=tmp_path / "out", quiet=True)
    assert sorted(content(open_images(tmp_path / "out"))) == sorted(content(pool.take([7, 2, 4, 0])))


def test_shards_hold_label_and_provenance_and_split_at_the_limit(pool, tmp_path):
    selection = selection_of(pool, [7, 2, 4, 0, 5])
    size = max(len(pool.read(row)) for row in range(9))
    summary = export_images(pool, selection, out=tmp_path / "out", format="wds", shard_bytes=2 * size + 900, quiet=True)
    shards = sorted((tmp_path / "out").glob("*.tar"))
    assert len(shards) == summary.num_files > 1
    assert [shard.name for shard in shards][:2] == ["shard-000000.tar", "shard-000001.tar"]
    with tarfile.open(shards[0]) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}
        assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in tar.getmembers()} == {(0, 0, 0, "", 0o644)}
    assert members["000000.cls"].decode() == str(pool.labels[7])
    assert json.loads(members["__classes__"]) == list(pool.classes)
    assert json.loads(members["000000.json"]) == {
        "id": selection.ids[0],
        "uri": selection.uris[0],
        "rank": 0,
        "similarity": pytest.approx(0.9),
        "round": 1,
        "cluster": 50,
    }
    assert content(open_images(summary.source)) == content(pool.take(selection))


def test_shards_of_several_exports_are_matched_by_class_name(tmp_path):
    """The class names are numbers, so that a mix-up of number and name would show."""
    for part, (low, high) in {"a": ("7", "20"), "b": ("20", "3")}.items():
        (tmp_path / f"{part}.csv").write_text(f"path,label\n{part}0.jpg,x{low}\n{part}1.jpg,x{high}\n")
        for number in range(2):
            (tmp_path / f"{part}{number}.jpg").write_bytes(encoded(number + ord(part)))
        source = open_images(tmp_path / f"{part}.csv")
        plain = tuple(name.removeprefix("x") for name in source.classes)
        export_images(dataclasses.replace(source, classes=plain), out=tmp_path / part, format="wds", quiet=True)
        (tmp_path / part / "shard-000000.tar").rename(tmp_path / f"{part}.tar")
    both = open_images(tmp_path / "[ab].tar")
    assert [name for _, name in content(both)] == ["7", "20", "20", "3"]
    assert sorted(both.classes) == ["20", "3", "7"]


def test_tables_are_in_the_hugging_face_layout(pool, tmp_path, monkeypatch):
    monkeypatch.setattr("simcore.images.export_files.ROWS_PER_GROUP", 2)
    selection = selection_of(pool, [7, 2, 4, 0, 5])
    size = sum(len(pool.read(row)) for row in (7, 2, 4))
    summary = export_images(pool, selection, out=tmp_path / "out", format="parquet", shard_bytes=size, quiet=True)
    tables = sorted((tmp_path / "out").glob("*.parquet"))
    assert [table.name for table in tables] == [f"data-{n:05d}-of-00002.parquet" for n in range(2)]
    file = pq.ParquetFile(tables[0])
    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [2, 1]
    features = json.loads(file.schema_arrow.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert features["label"] == {"names": list(pool.classes), "_type": "ClassLabel"}
    assert list(features) == file.schema_arrow.names
    rows = pa.concat_tables([pq.read_table(table) for table in tables]).to_pylist()
    assert [row["rank"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["image"]["bytes"] for row in rows] == [pool.read(row) for row in (7, 2, 4, 0, 5)]
    assert content(open_images(summary.source)) == content(pool.take(selection))


def test_the_hugging_face_library_agrees(pool, tmp_path):
    datasets = pytest.importorskip("datasets")
    export_images(pool, selection_of(pool, [7, 2]), out=tmp_path / "out", format="parquet", quiet=True)
    loaded = datasets.load_dataset("parquet", data_dir=str(tmp_path / "out"), cache_dir=str(tmp_path / "c"))["train"]
    assert loaded.features["label"].names == list(pool.classes)
    assert loaded[0]["image"].size == (9, 7)


@pytest.mark.parametrize("format", FORMATS)
def test_equal_input_gives_equal_bytes(format, pool, tmp_path):
    for name in ("a", "b"):
        export_images(pool, selection_of(pool, [3, 1]), out=tmp_path / name, format=format, quiet=True)
    assert files(tmp_path / "a") == files(tmp_path / "b")


@pytest.mark.parametrize("format", FORMATS)
def test_unreadable_images_are_counted_and_named(format, pool, tmp_path):
    selection = selection_of(pool, [7, 2, 4, 0])
    gone, html = selection.ids[1], selection.ids[3]
    (tmp_path / "pool" / gone).unlink()
    (tmp_path / "pool" / html).write_bytes(b"<html>sorry</html>")
    with pytest.warns(SimcoreWarning, match=r"2 images left out \(.*missing file"):
        summary = export_images(pool, selection, out=tmp_path / "out", format=format, quiet=True)
    assert summary.num_images == 2
    assert [name for name, _ in summary.unreadable] == [gone, html]
    assert "HTML" in summary.unreadable[1][1]
    assert json.loads((tmp_path / "out" / ".export.json").read_text())["num_unreadable"] == 2
    assert content(open_images(summary.source)) == content(pool.take([7, 4]))


def test_nothing_readable_leaves_nothing(pool, tmp_path):
    for path in (tmp_path / "pool").rglob("*.jpg"):
        path.unlink()
    with pytest.raises(SimcoreError, match="none of its 9 images can be read"):
        export_images(pool, out=tmp_path / "out", quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == ["pool"]


@pytest.mark.parametrize("format", FORMATS)
def test_a_break_leaves_nothing(format, pool, tmp_path, monkeypatch):
    def broken(data):
        raise KeyboardInterrupt

    monkeypatch.setattr("simcore.images.export.extension_of", broken)
    with pytest.raises(KeyboardInterrupt):
        export_images(pool, out=tmp_path / "out", format=format, quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == ["pool"]


def test_a_full_disk_is_said_and_leaves_nothing(pool, tmp_path, monkeypatch):
    def full(self, item):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("simcore.images.export_files.FolderWriter.add", full)
    with pytest.raises(SimcoreError, match=r"out: cannot be written \(the disk is full\)"):
        export_images(pool, out=tmp_path / "out", quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == ["pool"]


def test_wrong_calls(pool, tmp_path):
    with pytest.raises(UsageError, match="no export format is called 'parket'; did you mean 'parquet'"):
        export_images(pool, out=tmp_path / "out", format="parket")
    with pytest.raises(UsageError, match="at least 1"):
        export_images(pool, out=tmp_path / "out", shard_bytes=0)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(SimcoreError, match="exists already"):
        export_images(pool, out=tmp_path / "full")
    stranger = selection_of(pool, [1])
    with pytest.raises(SimcoreError, match="1 chosen images are not in it; the first is 'F-16 A/"):
        export_images(pool.take([8]), stranger, out=tmp_path / "out")


def test_odd_names_of_classes_and_files(tmp_path):
    """Slashes, a Latin-1 byte, percent signs, a leading dot in the file's stem, an empty stem after cleaning."""
    for folder, name in ((b"caf\xe9", b"\xff\xfe.jpg"), (b"50%25 off", b"#1.jpg"), ("鳥".encode(), b"a;b,c.jpg")):
        path = tmp_path / "pool" / os.fsdecode(folder) / os.fsdecode(name)
        path.parent.mkdir(parents=True)
        path.write_bytes(encoded(len(folder)))
    pool = open_images(tmp_path / "pool")
    for format in FORMATS:
        summary = export_images(pool, out=tmp_path / format, format=format, quiet=True)
        back = open_images(summary.source)
        assert [data for data, _ in content(back)] == [data for data, _ in content(pool)]
    for format in ("wds", "parquet"):
        assert content(open_images(tmp_path / format)) == content(pool)
    assert sorted(content(open_images(tmp_path / "folder"))) == sorted(content(pool))


def test_a_class_called_like_the_list_and_a_name_of_many_bytes(tmp_path):
    long = "\N{MATHEMATICAL BOLD CAPITAL A}" * 60  # 240 bytes: a file can be called so, but not with a rank before it
    (tmp_path / "odd" / "manifest.csv").mkdir(parents=True)
    (tmp_path / "odd" / "manifest.csv" / f"{long}.png").write_bytes(encoded(0, "PNG"))
    images = open_images(tmp_path / "odd")
    summary = export_images(images, out=tmp_path / "out", quiet=True)
    back = open_images(summary.source)
    assert back.classes == ("manifest.csv",)
    assert back.read(0) == images.read(0)
    (file,) = (tmp_path / "out" / "manifest.csv~2").iterdir()
    assert file.name.startswith(f"000000_{long[:40]}.")


def test_classes_that_differ_only_in_what_a_folder_cannot_hold(tmp_path):
    (tmp_path / "list.csv").write_text("path,label\na.jpg,F/A\nb.jpg,F_A\nc.jpg,F/A\n")
    for number, name in enumerate("abc"):
        (tmp_path / f"{name}.jpg").write_bytes(encoded(number))
    source = open_images(tmp_path / "list.csv")
    summary = export_images(source, out=tmp_path / "out", quiet=True)
    assert content(open_images(summary.source)) == content(source)
    assert open_images(tmp_path / "out").classes == ("F_A", "F_A~2")


@given(st.lists(st.text(min_size=1, max_size=300), unique=True, max_size=20))
def test_folder_names_are_distinct_and_stay_inside(labels):
    names = FolderNames()
    found = [names.name(label) for label in labels]
    assert len(set(found)) == len(labels)
    assert found == [names.name(label) for label in labels]
    for name in found:
        assert name
        assert not name.startswith(".")
        assert not set(name) & set("/\\\0")
        assert len(os.fsencode(name)) <= 255


def test_plain_names_stay():
    assert [safe_name(name) for name in ("cat", "鳥", "a b,c", "x.y")] == ["cat", "鳥", "a b,c", "x.y"]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.permutations(range(9)).flatmap(lambda order: st.integers(1, 9).map(lambda n: order[:n])))
def test_any_choice_comes_back(pool, tmp_path_factory, rows):
    base = tmp_path_factory.mktemp("any")
    for format in FORMATS:
        summary = export_images(pool, selection_of(pool, rows), out=base / format, format=format, quiet=True)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert content(open_images(summary.source)) == content(pool.take(rows))


@pytest.mark.parametrize(
    ("kind", "ending"),
    [
        ("JPEG", "jpg"),
        ("PNG", "png"),
        ("GIF", "gif"),
        ("WEBP", "webp"),
        ("BMP", "bmp"),
        ("TIFF", "tif"),
        ("PPM", "ppm"),
    ],
)
def test_the_ending_is_that_of_the_content(kind, ending):
    assert extension_of(encoded(3, kind)) == ending
