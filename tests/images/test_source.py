"""What every kind of source can do: take, join, select, scan, travel to another process."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from simcore.artifacts import Selection
from simcore.errors import SimcoreError, UsageError
from simcore.images import ImageFault, ImageSource, open_images, open_uris


def ids(source: ImageSource) -> list[str]:
    return source.table["id"].to_pylist()


@pytest.fixture(params=["folder", "list", "tar", "parquet"])
def labelled(make, request) -> ImageSource:
    """Twelve images of classes 0, 1, 2 in turn, as each kind of source; image i is ``make.pixels(i)``."""
    if request.param == "folder":
        for number in range(12):
            make.put(f"in/{number % 3}/{number:02d}.png", make.png(number))
        source = open_images(make.root / "in")
        return source.take(np.argsort([name[-6:-4] for name in ids(source)]))
    if request.param == "list":
        for number in range(12):
            make.put(f"{number:02d}.png", make.png(number))
        lines = "".join(f"{number:02d}.png,{number % 3}\n" for number in range(12))
        return open_images(make.put("list.csv", lines.encode()))
    if request.param == "tar":
        for shard in range(2):
            numbers = range(6 * shard, 6 * shard + 6)
            members = [
                m for n in numbers for m in ((f"{n:02d}.png", make.png(n)), (f"{n:02d}.cls", str(n % 3).encode()))
            ]
            make.tar(f"s-{shard}.tar", members)
        return open_images(make.root / "s-{0..1}.tar")
    for part in range(2):
        numbers = range(6 * part, 6 * part + 6)
        make.table(
            f"t-{part}.parquet", {"image": make.structs(numbers), "label": [n % 3 for n in numbers]}, row_group_size=4
        )
    return open_images(make.root / "t-*.parquet")


def test_rows_read_the_same_at_random_and_in_sequence(make, labelled):
    assert len(labelled) == 12
    assert labelled.labels.tolist() == [0, 1, 2] * 4
    assert labelled.classes == ("0", "1", "2")
    scanned = dict(labelled.scan(0, 12))
    assert list(scanned) == list(range(12))
    for row in np.random.default_rng(0).permutation(12).tolist():
        assert scanned[row] == labelled.read(row) == make.png(row)
        assert np.array_equal(labelled.decode(row).pixels, make.pixels(row))


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 5), (5, 9), (11, 12), (3, 100)])
def test_a_scan_of_a_part(labelled, start, stop):
    assert [row for row, _ in labelled.scan(start, stop)] == list(range(start, min(stop, 12)))


def test_take_keeps_the_order_asked_for(make, labelled):
    rows = [7, 0, 11, 3]
    taken = labelled.take(rows)
    assert ids(taken) == [ids(labelled)[row] for row in rows]
    assert taken.labels.tolist() == [row % 3 for row in rows]
    assert [data for _, data in taken.scan(0, 4)] == [make.png(row) for row in rows]
    assert taken.take(np.array([1, 2])).read(0) == make.png(0)
    assert len(labelled.take(labelled.labels == 1)) == 4
    assert len(labelled.take([])) == 0


def test_take_refuses_rows_that_are_not_there(labelled):
    for rows in ([12], [-1], [0, 99]):
        with pytest.raises(SimcoreError, match="rows run from 0 to 11"):
            labelled.take(rows)
    with pytest.raises(IndexError):
        labelled.read(12)


def chosen(names: list[str], indices: list[int]) -> Selection:
    n = len(indices)
    return Selection(
        indices=np.array(indices),
        rounds=np.ones(n, np.int32),
        clusters=np.zeros(n, np.int32),
        similarities=np.ones(n, np.float32),
        stop_reason="budget",
        ids=tuple(names),
    )


def test_a_selection_is_found_by_id(labelled):
    names = [ids(labelled)[row] for row in (9, 4)]
    assert ids(labelled.take(chosen(names, [5, 2]))) == names  # a store counts readable rows only
    assert ids(labelled.take(chosen([], [5, 2]))) == [ids(labelled)[row] for row in (5, 2)]
    with pytest.raises(SimcoreError, match="the first is 'gone'"):
        labelled.take(chosen([names[0], "gone"], [0, 1]))


def test_pickled_sources_read_the_same(make, labelled):
    labelled.read(0)
    again = pickle.loads(pickle.dumps(labelled))
    assert ids(again) == ids(labelled)
    assert again.read(5) == make.png(5)
    assert again.fingerprint == labelled.fingerprint


def test_a_pickled_part_leaves_the_rest_behind(make):
    for number in range(300):
        make.put(f"{'x' * 60}{number:03d}.png", make.png(number, width=2, height=2))
    source = open_images(make.root)
    assert len(pickle.dumps(source.take([5]))) < len(pickle.dumps(source)) / 10


def kinds(make) -> dict[str, tuple[str, list]]:
    """One source of each kind, with the files that it reads."""
    loose = [make.put(f"loose/{number}.png", make.png(number)) for number in range(3)]
    pairs = [make.put(f"pairs/{side}/a.png", make.png(1)) for side in ("images", "masks")]
    shard, table = (
        make.tar("s.tar", make.samples(3)),
        make.table("t.parquet", {"image": [make.png(n) for n in range(3)]}),
    )
    return {
        "folder": (str(make.root / "loose"), loose),
        "masks": (f"masks:{make.root / 'pairs'}", pairs),
        "shards": (str(shard), [shard]),
        "table": (str(table), [table]),
    }


@pytest.mark.parametrize("kind", ["folder", "masks", "shards", "table"])
def test_a_copy_with_other_dates_differs_in_its_fingerprint_alone(make, kind):
    where, files = kinds(make)[kind]
    before = open_images(where)
    for file in files:
        os.utime(file, ns=(5, 5))
    after = open_images(where)
    assert after.fingerprint != before.fingerprint
    assert after.undated == before.undated
    assert (before + before).undated != before.undated


def test_without_dates_names_sizes_and_labels_still_count(make):
    files = [make.put(f"loose/{number}.png", make.png(number)) for number in range(3)]
    seen = [open_images(make.root / "loose").undated]
    files[0].write_bytes(files[0].read_bytes() + b"0")
    seen.append(open_images(make.root / "loose").undated)
    files[1].rename(files[1].with_name("other.png"))
    seen.append(open_images(make.root / "loose").undated)
    (make.root / "loose" / "a").mkdir()
    files[2].rename(make.root / "loose" / "a" / "2.png")
    seen.append(open_images(make.root / "loose").undated)
    assert len(set(seen)) == 4


def test_without_dates_members_and_masks_still_count(make):
    """Members that fill as many blocks of a shard as before, and masks that another tool wrote anew or not at all."""
    shard = make.tar("s.tar", make.samples(3))
    before, size = open_images(shard).undated, shard.stat().st_size
    make.tar("s.tar", [(name, data + b"0") for name, data in make.samples(3)])
    assert shard.stat().st_size == size
    assert open_images(shard).undated != before

    for name in ("a", "b"):
        make.put(f"pairs/images/{name}.png", make.png(1))
        make.put(f"pairs/masks/{name}.png", make.png(2))
    seen = [open_images(f"masks:{make.root / 'pairs'}").undated]
    make.put("pairs/masks/b.png", make.png(2) + b"0")
    seen.append(open_images(f"masks:{make.root / 'pairs'}").undated)
    (make.root / "pairs" / "masks" / "b.png").unlink()
    seen.append(open_images(f"masks:{make.root / 'pairs'}").undated)
    assert len(set(seen)) == 3


def test_the_fingerprint_of_a_coreset_notices_rewritten_files(make):
    file = make.put("loose/0.png", make.png(0))
    source = open_images(make.root / "loose")
    coreset = Selection(
        indices=np.zeros(1, np.int64), rounds=np.ones(1, np.int32), clusters=np.zeros(1, np.int32),
        similarities=np.ones(1, np.float32), stop_reason="budget", ids=tuple(ids(source)),
        uris=tuple(source.table["uri"].to_pylist()),
    )  # fmt: skip
    before = open_uris(coreset)
    os.utime(file, ns=(5, 5))
    dated = open_uris(coreset)
    file.write_bytes(make.png(0) + b"0")
    longer = open_uris(coreset)
    assert len({before.fingerprint, dated.fingerprint, longer.fingerprint}) == 3
    assert before.undated == dated.undated != longer.undated


def test_joined_sources(make, labelled):
    for name in ("zebra", "1"):
        make.put(f"more/{name}/x.png", make.png(99))
    more = open_images(make.root / "more")
    joined = labelled + more
    assert joined.classes == ("0", "1", "2", "zebra")
    assert joined.labels.tolist() == [0, 1, 2] * 4 + [1, 3]
    assert ids(joined) == ids(labelled) + ids(more)
    assert [data for _, data in joined.scan(10, 14)] == [make.png(10), make.png(11), make.png(99), make.png(99)]
    assert joined.take([13, 2]).read(0) == make.png(99)
    twice = joined + joined
    assert [twice.read(row) for row in (0, 25, 27)] == [make.png(0), make.png(11), make.png(99)]
    assert len({labelled.fingerprint, more.fingerprint, joined.fingerprint, twice.fingerprint}) == 4


def test_joining_unlabelled_images(make, labelled):
    make.put("loose/x.png", make.png(99))
    joined = open_images(make.root / "loose") + labelled
    assert joined.labels.tolist() == [-1] + [0, 1, 2] * 4
    assert joined.classes == labelled.classes


def test_the_schema_of_the_table(labelled):
    schema = pa.schema([("id", pa.string()), ("uri", pa.string()), ("label", pa.int64())])
    assert labelled.table.schema.equals(schema)
    assert len(set(ids(labelled))) == 12


# ------------------------------------------------------------------------------------------------ selectors


@pytest.fixture
def mixed(make) -> str:
    """Five of class a, three of b, one of 'c d', in turn; as a list."""
    order = ["a", "b", "c d", "a", "b", "a", "a", "b", "a"]
    for number in range(9):
        make.put(f"{number}.png", make.png(number))
    lines = ["path,label", *(f"{number}.png,{name}" for number, name in enumerate(order))]
    return str(make.put("mixed.csv", "\n".join(lines).encode()))


@pytest.mark.parametrize(
    ("selectors", "rows"),
    [
        ("limit=4", "0123"),
        ("limit=99", "012345678"),
        ("classes=b", "147"),
        ("classes=b,c%20d", "1247"),
        ("classes=c d", "2"),
        ("limit-per-class=2", "01234"),
        ("skip-per-class=2", "5678"),
        ("skip-per-class=1&limit-per-class=1", "34"),
        ("classes=a&skip-per-class=1&limit-per-class=3&limit=2", "35"),
        ("limit_per_class=1", "012"),
    ],
)
def test_selectors_keep_source_order(mixed, selectors, rows):
    source = open_images(f"{mixed}#{selectors}")
    assert "".join(name[0] for name in ids(source)) == rows
    assert source.classes == ("a", "b", "c d")


@pytest.mark.parametrize(
    ("selectors", "error", "words"),
    [
        ("limt=3", UsageError, "did you mean 'limit'"),
        ("limit", UsageError, "needs a value"),
        ("limit=", UsageError, "needs a value"),
        ("limit=-1", UsageError, "whole number"),
        ("limit=1.5", UsageError, "whole number"),
        ("limit=1&limit=2", UsageError, "twice"),
        ("", UsageError, "no selector"),
        ("classes=zebra", SimcoreError, "no class is called 'zebra'; it has a, b, c d"),
        ("classes=c_d", SimcoreError, "did you mean 'c d'"),
        ("limit=0", SimcoreError, "none of its 9 images"),
        ("skip-per-class=50", SimcoreError, "none of its 9 images"),
        ("split=test", SimcoreError, "no split 'test'"),
    ],
)
def test_bad_selectors_are_explained(mixed, selectors, error, words):
    with pytest.raises(error, match=words):
        open_images(f"{mixed}#{selectors}")


def test_class_selectors_need_labels(make):
    make.put("a.png", make.png())
    for selectors in ("classes=a", "limit-per-class=1"):
        with pytest.raises(SimcoreError, match="no image has a label"):
            open_images(f"{make.root}#{selectors}")


def test_a_hash_in_a_name_is_no_selector(make):
    make.put("my#folder/a.png", make.png())
    make.put("my#folder/b.png", make.png())
    assert len(open_images(make.root / "my#folder")) == 2
    assert len(open_images(f"{make.root}/my#folder#limit=1")) == 1


# ------------------------------------------------------------------------------------------------ kinds


def test_prefixes_override_what_is_seen(make):
    make.tar("data", make.samples(2))
    make.put("names", b"a.png\n")
    make.put("a.png", make.png())
    make.table("rows", {"image": make.structs(range(3))})
    assert len(open_images(f"wds:{make.root}/data")) == 2
    assert len(open_images(f"list:{make.root}/names")) == 1
    assert len(open_images(f"parquet:{make.root}/rows")) == 3
    assert len(open_images(f"folder:{make.root}")) == 1
    assert len(open_images(make.root / "data")) == 2
    assert len(open_images(make.root / "rows")) == 3
    with pytest.raises(SimcoreError, match="prefix"):
        open_images(make.root / "names")


def test_folders_of_shards_and_tables(make):
    make.tar("wds/a-0.tar", make.samples(2))
    make.tar("wds/a-1.tar", make.samples(1, start=5))
    make.put("wds/sizes.json", b"{}")
    make.table("hf/data/train-00000-of-00001.parquet", {"image": make.structs(range(3))})
    make.table("hf/data/test-00000-of-00001.parquet", {"image": make.structs(range(2))})
    make.put("hf/README.md", b"---")
    make.tar("split/train/0.tar", make.samples(2))
    make.tar("split/val/0.tar", make.samples(1))
    assert ids(open_images(make.root / "wds")) == ["a-0.tar/000.png", "a-0.tar/001.png", "a-1.tar/005.png"]
    assert len(open_images(make.root / "hf")) == 3
    assert len(open_images(f"{make.root}/hf#split=test")) == 2
    assert ids(open_images(make.root / "hf", split="all"))[0] == "test-00000-of-00001.parquet#0"
    assert ids(open_images(f"{make.root}/split#split=val")) == ["0.tar/000.png"]
    assert ids(open_images(f"{make.root}/split", split="all")) == [
        "train/0.tar/000.png", "train/0.tar/001.png", "val/0.tar/000.png",
    ]  # fmt: skip


def test_patterns(make):
    for number in range(12):
        make.tar(f"s-{number:02d}.tar", make.samples(1, start=number))
    assert len(open_images(f"{make.root}/s-{{00..11}}.tar")) == 12
    assert ids(open_images(f"{make.root}/s-{{03,01}}.tar")) == ["s-03.tar/003.png", "s-01.tar/001.png"]
    assert len(open_images(f"{make.root}/s-0?.tar#limit=3")) == 3
    assert len(open_images(f"{make.root}/s-{{0,1}}{{0..1}}.tar")) == 4
    with pytest.raises(SimcoreError, match="matches no file"):
        open_images(f"{make.root}/t-*.tar")
    with pytest.raises(UsageError, match="backwards"):
        open_images(f"{make.root}/s-{{5..1}}.tar")


def test_faults_come_in_their_place(make):
    make.put("a.png", make.png())
    make.put("b.png", b"")
    make.put("c.png", make.png())
    (make.root / "d.png").symlink_to("nowhere")
    found = list(open_images(make.root).scan(0, 4))
    assert [row for row, _ in found] == [0, 1, 2, 3]
    assert isinstance(found[3][1], ImageFault)
    assert found[1][1] == b""


def test_reading_images_loads_no_torch(make):
    make.put("a.png", make.png())
    code = (
        "import sys\nfrom simcore.images import open_images\nfrom simcore.images.inspect import inspect_images\n"
        "assert inspect_images(open_images(sys.argv[1]), quiet=True).num_ok == 1\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(make.root)], check=False).returncode == 0
