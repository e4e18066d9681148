"""Which rows come out, in which order, with which values."""

from __future__ import annotations

import io
import os
import signal
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, Resize

from simcore.artifacts import Embeddings
from simcore.embedding import Embedder, load_encoder
from simcore.errors import BadDataError, SimcoreError, SimcoreWarning, UsageError
from simcore.images import open_images

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def noise_jpeg() -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(9).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def bad_folder(tmp_path, jpeg):
    """Seven readable images (one a GIF named .jpg), one cut, one empty, one HTML page."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for number in range(6):
        (folder / f"img_{number:02d}.jpg").write_bytes(jpeg(number, (64, 64)))
    buffer = io.BytesIO()
    Image.open(io.BytesIO(jpeg(6, (64, 64)))).save(buffer, "GIF")
    (folder / "img_06.jpg").write_bytes(buffer.getvalue())
    whole = noise_jpeg()
    (folder / "bad_cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "bad_empty.jpg").write_bytes(b"")
    (folder / "bad_page.jpg").write_text("<html><body>404 Not Found</body></html>\n")
    return folder


@pytest.mark.parametrize("num_workers", [0, 2])
def test_unreadable_images_leave_no_row_and_have_a_reason(bad_folder, encoder, tmp_path, num_workers):
    with pytest.warns(SimcoreWarning, match="3 of 10 images gave no feature"):
        made = Embedder(encoder, num_workers=num_workers, quiet=True)(open_images(bad_folder), tmp_path / "store")
    assert made.table["id"].to_pylist() == [f"img_{number:02d}.jpg" for number in range(7)]
    assert made.table["row"].to_pylist() == list(range(7))
    assert set(made.table["width"].to_pylist()) == set(made.table["height"].to_pylist()) == {64}
    assert len({row.tobytes() for row in np.asarray(made.features)}) == 7
    assert made.num_skipped == 3
    import pyarrow.parquet as pq

    skipped = pq.read_table(tmp_path / "store" / "skipped.parquet").to_pylist()
    assert [item["id"] for item in skipped] == ["bad_cut.jpg", "bad_empty.jpg", "bad_page.jpg"]
    assert len({item["reason"] for item in skipped}) == 3


@pytest.mark.parametrize("num_workers", [0, 2])
def test_strict_stops_and_leaves_no_table(bad_folder, encoder, tmp_path, num_workers):
    with pytest.raises(BadDataError, match=r"bad_cut.jpg \(.*\) and 2 more near it; no table was made"):
        Embedder(encoder, num_workers=num_workers, strict=True, quiet=True)(open_images(bad_folder), tmp_path / "s")
    assert not (tmp_path / "s" / "rows.parquet").exists()
    with pytest.raises(SimcoreError, match="not a finished store"):
        Embeddings.load(tmp_path / "s")
    with pytest.warns(SimcoreWarning):
        Embedder(encoder, quiet=True)(open_images(bad_folder), tmp_path / "s")
    with pytest.raises(BadDataError, match="3 of 10 images cannot be read"):
        Embedder(encoder, strict=True, quiet=True)(open_images(bad_folder), tmp_path / "s")


def test_strict_refuses_a_cut_shard(ten_pngs, encoder, tmp_path):
    cut = tmp_path / "cut.tar"
    cut.write_bytes(ten_pngs[1].read_bytes()[:9000])
    with pytest.warns(SimcoreWarning, match="incomplete"):
        images = open_images(cut)
    with pytest.raises(BadDataError, match=r"1 incomplete: cut.tar \(truncated .*no table was made"):
        Embedder(encoder, strict=True, quiet=True)(images, tmp_path / "store")
    assert not (tmp_path / "store").exists()
    assert 0 < len(Embedder(encoder, quiet=True)(images)) < 10


def test_nothing_readable_is_an_error(tmp_path, encoder):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.jpg").write_bytes(b"")
    with pytest.raises(SimcoreError, match=r"none of the 1 images gave a feature; the first: x.jpg \("):
        Embedder(encoder, quiet=True)(open_images(tmp_path / "a"))
    with pytest.raises(SimcoreError, match="none of the 1 images"):
        Embedder(encoder, quiet=True)(open_images(tmp_path / "a"), tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_store_without_rows_takes_no_foreign_file_with_it(tmp_path, encoder):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.jpg").write_bytes(b"")
    store = tmp_path / "store"
    store.mkdir()
    (store / "store.json").write_text("{}")
    (store / "notes.txt").write_text("mine")
    with pytest.raises(SimcoreError, match="none of the 1 images"):
        Embedder(encoder, overwrite=True, quiet=True)(open_images(tmp_path / "a"), store)
    assert [path.name for path in store.iterdir()] == ["notes.txt"]
    assert (store / "notes.txt").read_text() == "mine"


@pytest.fixture
def ten_pngs(tmp_path, jpeg):
    """The same ten PNGs as a folder and as a tar."""
    folder = tmp_path / "ten"
    folder.mkdir()
    for number in range(10):
        Image.open(io.BytesIO(jpeg(number, (48, 40)))).save(folder / f"{number}.png")
    with tarfile.open(tmp_path / "ten.tar", "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name)
    return folder, tmp_path / "ten.tar"


def test_rows_are_the_same_whatever_reads_them(ten_pngs, encoder):
    folder, shard = ten_pngs
    reference = Embedder(encoder, batch_size=10, num_workers=0, dtype="float32", quiet=True)(open_images(folder))
    for place in (folder, shard):
        for batch_size, num_workers in ((4, 0), (4, 2), (4, 4), (1, 0), (1, 2), (10, 0)):
            embedder = Embedder(encoder, batch_size=batch_size, num_workers=num_workers, dtype="float32", quiet=True)
            made = embedder(open_images(place))
            assert [id.rpartition("/")[2] for id in made.table["id"].to_pylist()] == [f"{n}.png" for n in range(10)]
            np.testing.assert_allclose(np.asarray(made.features), np.asarray(reference.features), atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_values_are_those_of_resize_crop_normalise_and_backbone(make_folder, encoder, dtype):
    folder = make_folder(5)
    made = Embedder(encoder, dtype=dtype, quiet=True)(open_images(folder))
    steps = [CenterCrop(32)(Resize(37)(Image.open(path).convert("RGB"))) for path in sorted(folder.iterdir())]
    pixels = torch.from_numpy(np.stack([np.asarray(step) for step in steps])).permute(0, 3, 1, 2)
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (encoder.mean, encoder.std))
    with torch.no_grad():
        expected = encoder.backbone((pixels / 255 - mean) / std).numpy()
    given = np.asarray(made.features)
    assert given.dtype == dtype
    cosine = (given.astype(np.float32) * expected).sum(1) / np.linalg.norm(given.astype(np.float32), axis=1)
    assert (cosine / np.linalg.norm(expected, axis=1) > 0.9999).all()


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_memory_and_store_hold_the_same(make_folder, encoder, tmp_path, contents, num_workers):
    images = open_images(make_folder(45))
    kept = Embedder(encoder, batch_size=3, num_workers=0, quiet=True)(images)
    stored = Embedder(encoder, batch_size=3, num_workers=num_workers, quiet=True)(images, tmp_path / "store")
    assert stored.table.equals(kept.table)
    assert np.array_equal(np.asarray(stored.features), np.asarray(kept.features))
    assert (stored.classes, stored.fingerprint) == (kept.classes, kept.fingerprint)
    assert {key: kept.info[key] for key in kept.info} == {k: stored.info[k] for k in stored.info if k != "parts"}
    assert sorted(contents(tmp_path / "store")) == [
        "features-00000.npy",
        "rows.parquet",
        "skipped.parquet",
        "store.json",
    ]
    opened = Embeddings.load(tmp_path / "store")
    assert opened.features.dtype == np.float16
    assert opened.table["id"].to_pylist() == [f"img_{number:05d}.jpg" for number in range(45)]


def test_a_path_may_stand_for_a_source(make_folder, encoder):
    assert len(Embedder(encoder, quiet=True)(make_folder(2))) == 2


def test_extreme_shapes(tmp_path, encoder):
    sizes = [(1, 1), (1, 300), (300, 1), (400, 3), (3, 400), (1, 60_000), (64, 64)]
    (tmp_path / "odd").mkdir()
    for number, size in enumerate(sizes):
        Image.new("RGB", size, (200, 30, 60)).save(tmp_path / "odd" / f"{number}.png")
    made = Embedder(encoder, dtype="float32", quiet=True)(tmp_path / "odd")
    assert len(made) + made.num_skipped == 7
    assert {"0.png", "1.png", "2.png", "3.png", "4.png", "6.png"} <= set(made.table["id"].to_pylist())
    features = np.asarray(made.features)
    np.testing.assert_allclose(features, np.broadcast_to(features[-1:], features.shape), atol=1e-5)


def test_torchs_own_generator_is_left_alone(make_folder, encoder):
    images = open_images(make_folder(3))
    before = torch.random.get_rng_state()
    for num_workers in (0, 1):
        Embedder(encoder, num_workers=num_workers, quiet=True)(images)
    assert torch.equal(torch.random.get_rng_state(), before)


class Loud(torch.nn.Module):
    """Features of a chosen size, NaN for dark images."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, images):
        means = images.mean((2, 3))
        features = torch.cat([means, means**2], 1) * self.scale
        return features / (means[:, :1] > -2.0).float()


def loud(scale: float):
    encoder = load_encoder("timm:resnet10@random", device="cpu", image_size=32)
    encoder.backbone, encoder.dim = Loud(scale).eval(), 6
    return encoder


@pytest.mark.parametrize("scale", [1e6, 1e-9])
def test_features_beyond_float16_keep_their_direction_and_are_told(make_folder, scale):
    folder = make_folder(6)
    exact = np.asarray(Embedder(loud(scale), dtype="float32", quiet=True)(folder).features)
    with pytest.warns(SimcoreWarning, match="6 features did not fit float16"):
        made = Embedder(loud(scale), quiet=True)(folder)
    stored = np.asarray(made.features).astype(np.float64)
    assert np.isfinite(stored).all()
    assert made.info["num_rescaled"] == 6
    peak = np.abs(stored).max(1)
    assert ((peak >= 1) & (peak <= 2)).all()
    ratio = stored / exact
    np.testing.assert_allclose(ratio, ratio[:, :1].repeat(6, 1), rtol=2e-3)


def test_features_that_fit_are_not_touched(make_folder):
    folder = make_folder(6)
    exact = np.asarray(Embedder(loud(100.0), dtype="float32", quiet=True)(folder).features)
    assert np.array_equal(np.asarray(Embedder(loud(100.0), quiet=True)(folder).features), exact.astype(np.float16))


def test_a_feature_of_nan_is_a_skipped_row(make_folder):
    folder = make_folder(4)
    Image.new("RGB", (40, 40)).save(folder / "img_00001x.png")
    with pytest.warns(SimcoreWarning, match="1 of 5 images gave no feature"):
        made = Embedder(loud(1.0), quiet=True)(folder)
    assert len(made) == 4
    assert "img_00001x.png" not in made.table["id"].to_pylist()


def test_an_encoder_that_gives_only_nan_is_an_error(make_folder):
    with pytest.raises(SimcoreError, match="gives NaN or infinity for every image of a batch"):
        Embedder(loud(float("nan")), quiet=True)(make_folder(20))


def test_wrong_settings_are_refused(encoder):
    for settings, text in (
        ({"batch_size": 0}, "--batch-size is 0"),
        ({"num_workers": -1}, "--num-workers is -1"),
        ({"precision": "8"}, "--precision is '8'"),
        ({"dtype": "int8"}, "--dtype is 'int8'"),
    ):
        with pytest.raises(UsageError, match=text):
            Embedder(encoder, **settings)


def test_bfloat16_comes_near(make_folder, encoder):
    folder = make_folder(4)
    exact = np.asarray(Embedder(encoder, quiet=True)(folder).features, np.float32)
    rough = np.asarray(Embedder(encoder, precision="bf16-mixed", quiet=True)(folder).features, np.float32)
    cosine = (exact * rough).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rough, axis=1)
    assert (cosine > 0.995).all()
    assert not np.array_equal(exact, rough)


class Sabotaged:
    """A reader that misbehaves at one row of the wrapped one."""

    def __init__(self, reader, act):
        self.reader, self.act = reader, act

    @property
    def fingerprint(self):
        return self.reader.fingerprint

    def scan(self, places, limits):
        yield from self.act(self.reader.scan(places, limits))


def killed(items):
    for number, item in enumerate(items):
        if number == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        yield item


def repeating(items):
    for item in items:
        yield item
        yield item


def out_of_reach(items):
    yield next(items)
    raise SimcoreError("s3://pool: no route to host")


def sabotage(images, act):
    import dataclasses

    return dataclasses.replace(images, readers=tuple(Sabotaged(reader, act) for reader in images.readers))


@pytest.mark.usefixtures("small_pieces")
def test_a_killed_worker_is_an_error_and_no_hang(make_folder, encoder):
    images = sabotage(open_images(make_folder(40)), killed)
    with pytest.raises(SimcoreError, match="a decode process died or hangs"):
        Embedder(encoder, num_workers=2, quiet=True)(images)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_source_that_fails_is_one_line(make_folder, encoder, num_workers):
    images = sabotage(open_images(make_folder(4)), out_of_reach)
    with pytest.raises(SimcoreError, match=r"^s3://pool: no route to host$"):
        Embedder(encoder, num_workers=num_workers, quiet=True)(images)


def test_progress_and_skips_are_said_on_stderr(bad_folder, encoder, capsys):
    with pytest.warns(SimcoreWarning):
        Embedder(encoder)(open_images(bad_folder))
    said = capsys.readouterr()
    assert "embed: 10/10 images (100 %)" in said.err
    assert "3 skipped" in said.err
    assert said.out == ""
