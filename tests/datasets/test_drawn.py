from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from simcore.datasets._canvas import Canvas, hsv
from simcore.datasets._moths import SPECIES
from simcore.datasets.drawn import PAINTERS, Drawn
from simcore.errors import SimcoreError, UsageError
from simcore.registry import find
from simcore.settings import fields_of

SMALL = Drawn(num_train=3, num_test=2, num_pool=100, image_size=32, share_own=0.04, share_related=0.04)


def digest(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)), np.float64)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "set"
    SMALL.write(folder)
    return folder


def test_the_strategy_is_found_by_name_and_says_its_licence():
    assert find("datasets", "drawn") is Drawn
    assert Drawn.licence
    assert Drawn.description
    assert all(field.help for field in fields_of(Drawn))


def test_target_is_one_folder_a_species_in_each_split(written):
    for split, number in (("train", 3), ("test", 2)):
        folders = sorted((written / "target" / split).iterdir())
        assert [f.name for f in folders] == sorted(SPECIES)
        assert {len(list(f.glob("*.jpg"))) for f in folders} == {number}
    picture = Image.open(written / "target" / "train" / "ash moth" / "000.jpg")
    assert (picture.mode, picture.size) == ("RGB", (32, 32))


def test_pool_is_a_hugging_face_table_with_the_shares_asked_for(written):
    table = pq.read_table(written / "pool" / "pool.parquet")
    names = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]["label"]["names"]
    assert names == list(PAINTERS)
    counts = np.bincount(table["label"].to_numpy(), minlength=len(names))
    assert counts.sum() == 100
    assert counts[: len(SPECIES)].sum() == 4
    assert counts[len(SPECIES) : len(SPECIES) + 2].tolist() == [2, 2]
    assert set(counts[len(SPECIES) + 2 :]) == {4, 5}
    assert {pixels(row["bytes"]).shape for row in table["image"].to_pylist()} == {(32, 32, 3)}


def test_labels_belong_to_their_pictures(tmp_path):
    """Mixing the pool must move labels with pictures: black ticks on a pale dial have more contrast than a leaf has."""
    Drawn(num_train=1, num_test=1, num_pool=400, image_size=32, share_own=0, share_related=0).write(tmp_path / "s")
    table = pq.read_table(tmp_path / "s" / "pool" / "pool.parquet")
    kinds, rows = list(PAINTERS), table["label"].to_numpy()
    contrast = np.asarray([pixels(row["bytes"]).std(axis=(0, 1)).mean() for row in table["image"].to_pylist()])
    clocks, leaves = contrast[rows == kinds.index("clock")], contrast[rows == kinds.index("leaf")]
    assert np.median(clocks) > 1.3 * np.median(leaves)


def test_equal_settings_give_equal_bytes_and_another_seed_other_ones(written, tmp_path):
    SMALL.write(tmp_path / "again")
    assert digest(tmp_path / "again") == digest(written)
    Drawn(num_train=3, num_test=2, num_pool=100, image_size=32, share_own=0.04, share_related=0.04, seed=1).write(
        tmp_path / "other"
    )
    ours, other = digest(written), digest(tmp_path / "other")
    assert not set(ours.values()) & set(other.values())


def test_no_picture_is_drawn_twice(written):
    table = pq.read_table(written / "pool" / "pool.parquet")
    pictures = [row["bytes"] for row in table["image"].to_pylist()]
    pictures += [p.read_bytes() for p in written.rglob("*.jpg")]
    assert len(set(pictures)) == len(pictures) == 100 + 8 * 5


def test_every_two_species_differ_to_the_eye_in_the_same_pose_and_light():
    drawn = []
    for name in SPECIES:
        canvas = Canvas(np.random.default_rng(5), 8, 48, wild=0.0)
        PAINTERS[name][0](canvas)
        drawn.append(canvas.colour * canvas.cover)
    inside = (canvas.cover > 0.5).mean()
    for first in range(len(drawn)):
        for second in range(first):
            assert np.abs(drawn[first] - drawn[second]).mean() / inside > 0.01  # levels of 0..1 over the moth


def test_a_folder_with_the_same_set_is_kept_and_another_is_refused(written, tmp_path):
    before = digest(written)
    SMALL.write(written)
    assert digest(written) == before
    with pytest.raises(SimcoreError, match="something else"):
        Drawn(num_train=4, num_test=2, num_pool=100, image_size=32, share_own=0.04, share_related=0.04).write(written)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(SimcoreError, match="something else"):
        SMALL.write(tmp_path / "mine")
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_an_interrupted_drawing_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("simcore.datasets.drawn._write_pool", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        SMALL.write(tmp_path / "set")
    assert not (tmp_path / "set").exists()
    monkeypatch.undo()
    SMALL.write(tmp_path / "set")
    assert (tmp_path / "set" / "drawn.json").is_file()
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize(
    "wrong", [{"num_pool": 0}, {"num_train": 0}, {"image_size": 8}, {"share_own": 0.9, "share_related": 0.2}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError):
        Drawn(**wrong)


def test_hsv_gives_the_primary_colours():
    hue = np.asarray([0, 1 / 3, 2 / 3, 0.5], np.float32).reshape(4, 1, 1)
    one = np.ones_like(hue)
    expected = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1]]
    np.testing.assert_allclose(hsv(hue, one, one).reshape(4, 3), expected, atol=1e-6)
    np.testing.assert_allclose(hsv(hue, 0 * one, one).reshape(4, 3), 1.0)


@pytest.mark.parametrize("kind", list(PAINTERS))
def test_every_painter_fills_some_of_the_picture_with_colours_in_range(kind):
    canvas = Canvas(np.random.default_rng(3), 6, 32, wild=0.0)
    PAINTERS[kind][0](canvas)
    assert canvas.colour.dtype == canvas.cover.dtype == np.float32
    assert np.isfinite(canvas.colour).all()
    assert canvas.cover.min() >= 0
    assert canvas.cover.max() <= 1
    assert (canvas.cover.mean(axis=(1, 2, 3)) > 0.03).all()
