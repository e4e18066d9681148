"""open_uris: the images of a coreset or store, found again where they lie."""

from __future__ import annotations

import os

import numpy as np
import pyarrow as pa
import pytest

from simcore.artifacts import Embeddings, Selection
from simcore.artifacts.embeddings import ROWS_SCHEMA
from simcore.errors import SimcoreError
from simcore.images import ImageSource, open_images, open_uris


@pytest.fixture
def pool(make) -> ImageSource:
    """Images 0 to 2 as files (one with a name that is not UTF-8), 3 to 5 in shards, 6 to 8 in tables."""
    make.put("f/a/0.png", make.png(0))
    make.put("f/b/1#row=1.png", make.png(1))
    make.put(os.fsdecode(b"f/b/caf\xe9.png"), make.png(2))
    make.tar("s-0.tar", [("k/3.png", make.png(3)), ("k/3.cls", b"1")])
    make.tar("s-1.tar", [("4.png", make.png(4)), ("4::x.png", make.png(5))])
    make.table("t.parquet", {"image": make.structs([6, 7, 8]), "label": [0, 1, 0]}, row_group_size=2)
    parts = [open_images(f"{make.root}/{where}") for where in ("f", "s-*.tar", "t.parquet")]
    return parts[0] + parts[1] + parts[2]


def selection_of(source: ImageSource, rows: list[int]) -> Selection:
    taken = source.take(rows)
    n = len(rows)
    return Selection(
        indices=np.array(rows),
        rounds=np.ones(n, np.int32),
        clusters=np.zeros(n, np.int32),
        similarities=np.ones(n, np.float32),
        stop_reason="budget",
        ids=tuple(taken.table["id"].to_pylist()),
        uris=tuple(taken.table["uri"].to_pylist()),
        labels=taken.labels,
        classes=taken.classes,
    )


def test_a_selection_is_opened_in_pick_order(make, pool):
    rows = [8, 2, 4, 0, 5, 3, 7, 1, 6]
    source = open_uris(selection_of(pool, rows))
    assert [source.read(row) for row in range(9)] == [make.png(number) for number in rows]
    assert [data for _, data in source.scan(0, 9)] == [make.png(number) for number in rows]
    assert source.table.equals(pool.take(rows).table)
    assert source.classes == pool.classes


def test_a_saved_selection_too(make, pool, tmp_path):
    selection_of(pool, [2, 7]).save(tmp_path / "s.parquet")
    source = open_uris(Selection.load(tmp_path / "s.parquet"))
    assert [source.read(row) for row in range(2)] == [make.png(2), make.png(7)]


def test_a_store_is_opened(make, pool):
    columns = pool.table.to_pydict()
    columns |= {"row": range(9), "width": [1] * 9, "height": [1] * 9}
    table = pa.table({name: pa.array(columns[name], ROWS_SCHEMA.field(name).type) for name in ROWS_SCHEMA.names})
    store = Embeddings(features=Embeddings.from_array(np.zeros((9, 2))).features, table=table, classes=pool.classes)
    source = open_uris(store)
    assert [source.read(row) for row in range(9)] == [make.png(number) for number in range(9)]
    assert source.labels.tolist() == pool.labels.tolist()


def test_what_is_gone_is_named(make, pool):
    chosen = selection_of(pool, [3, 6])
    make.tar("s-0.tar", [("other.png", make.png(0))])
    with pytest.raises(SimcoreError, match=r"s-0\.tar: holds no member 'k/3\.png'"):
        open_uris(chosen)
    (make.root / "s-0.tar").unlink()
    with pytest.raises(SimcoreError, match=r"s-0\.tar: missing file"):
        open_uris(chosen)
    make.table("t.parquet", {"image": make.structs([6])})
    with pytest.raises(SimcoreError, match=r"t\.parquet: has 1 rows, row 2"):
        open_uris(selection_of(pool, [8]))


def test_plain_arrays_have_no_images():
    with pytest.raises(SimcoreError, match="plain array"):
        open_uris(Embeddings.from_array(np.zeros((3, 2))))
