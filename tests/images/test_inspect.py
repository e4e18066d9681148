"""inspect_images: the counts of the report, whatever the number of workers."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from PIL import Image

from simcore.embedding import Embedder, load_encoder
from simcore.errors import SimcoreWarning
from simcore.images import open_images
from simcore.images.duplicates import similar_groups, thumbnail
from simcore.images.inspect import inspect_images


def report(where, num_workers: int = 0) -> dict:
    with_notes = open_images(where, split="all")
    return inspect_images(with_notes, num_workers=num_workers, quiet=True).to_json()


@pytest.fixture
def dirty(make):
    """Seven readable images, three that are not, one refused."""
    for number in range(6):
        make.put(f"img_{number:02d}.jpg", make.jpeg(number, width=64, height=64))
    make.put("img_06.jpg", make.encode(Image.fromarray(make.pixels(6, 64, 64)).convert("P"), "GIF"))
    whole = make.encode(make.noise(1), "JPEG", quality=90)
    make.put("bad_cut.jpg", whole[: len(whole) // 2])
    make.put("bad_empty.jpg", b"")
    make.put("bad_page.jpg", b"<!doctype html><title>404</title>")
    make.put("needle.png", make.encode(Image.new("RGB", (1, 60_000))))
    return make.root


@pytest.mark.parametrize("num_workers", [0, 1, 2, 4])
def test_bad_images_are_listed_with_their_reasons(dirty, num_workers):
    found = report(dirty, num_workers)
    assert (found["n_ok"], found["n_unreadable"], found["n_refused"]) == (7, 3, 1)
    reasons = {item["id"]: item["reason"] for item in found["unreadable"]}
    assert "truncated" in reasons["bad_cut.jpg"]
    assert "empty" in reasons["bad_empty.jpg"]
    assert "not an image" in reasons["bad_page.jpg"]
    assert found["refused"][0]["id"] == "needle.png"
    assert found["n_warnings"] == len(found["warnings"]) == 4
    assert found["formats"] == {"GIF": 1, "JPEG": 6}
    json.dumps(found, allow_nan=False).encode("utf-8")


def test_any_number_of_workers_says_the_same(make):
    for number in range(300):
        make.put(f"{number:03d}.png", make.png(number % 250, width=8 + number % 250, height=8) if number % 50 else b"x")
    reports = [report(make.root, workers) for workers in (0, 1, 3, 8)]
    assert reports[0]["n_duplicates"] == 49
    assert all(other == reports[0] for other in reports)


def test_counts_of_classes_and_sizes(make):
    for name, width in (("a/1.png", 10), ("a/2.png", 20), ("b/1.png", 60), ("c/1.png", 30)):
        make.put(name, make.png(width, width=width, height=40))
    make.put("b/2.png", b"")
    (make.root / "b/1.png").write_bytes(b"")
    make.put("loose.png", make.png(99, width=30))
    make.put("c/.DS_Store", b"x")
    (make.root / "d").mkdir()
    with pytest.warns(SimcoreWarning, match="'d'"):
        found = report(make.root)
    assert found["classes"] == {"a": 2, "b": 0, "c": 1}
    assert found["n_unlabelled"] == 1
    assert found["sizes"]["width"] == {"min": 10, "median": 25.0, "max": 30}
    assert found["sizes"]["height"] == {"min": 24, "median": 40.0, "max": 40}
    assert found["empty_classes"] == ["d"]
    assert found["n_hidden_skipped"] == 1
    assert found["n_warnings"] == 3


def test_cut_shards_count_as_warnings(make):
    whole = make.tar_bytes(make.samples(5))
    make.put("whole.tar", whole)
    make.put("cut.tar", whole[: len(whole) // 2])
    with pytest.warns(SimcoreWarning, match=r"cut\.tar"):
        source = open_images(make.root)
    found = inspect_images(source, num_workers=2, quiet=True)
    assert found.num_bad == 1
    assert found.to_json()["incomplete"][0]["name"] == "cut.tar"
    assert found.to_json()["n_warnings"] == 1
    assert "cut.tar" in found.first_bad(3)[0]


def test_a_source_without_a_readable_image(make):
    make.put("a.png", b"")
    make.put("b.png", b"nothing")
    found = report(make.root)
    assert (found["n_ok"], found["n_unreadable"]) == (0, 2)
    assert found["sizes"] == {"width": {}, "height": {}}


def test_equal_pixels_are_duplicates_whatever_the_file(make):
    pixels = make.pixels(1)
    make.put("a.png", make.encode(pixels))
    make.put("b.bmp", make.encode(pixels, "BMP"))
    make.put("c.png", make.encode(pixels, compress_level=1))
    make.put("d.png", make.png(2))
    make.put("e.png", make.png(2))
    make.put("turned.png", make.encode(np.ascontiguousarray(pixels.transpose(1, 0, 2))))
    found = report(make.root)
    assert found["n_duplicates"] == 3
    assert found["duplicates"] == [["a.png", "b.bmp", "c.png"], ["d.png", "e.png"]]
    assert found["n_near_duplicates"] == 0


def test_pictures_that_look_the_same_are_near_duplicates(make):
    big = Image.fromarray(make.pixels(1, width=160, height=120))
    make.put("big.png", make.encode(big))
    make.put("compressed.jpg", make.encode(big, "JPEG", quality=30))
    make.put("small.png", make.encode(big.resize((80, 60), Image.Resampling.LANCZOS)))
    make.put("copy.png", make.encode(big))
    make.put("mirrored.png", make.encode(big.transpose(Image.Transpose.FLIP_LEFT_RIGHT)))
    make.put("stretched.png", make.encode(big.resize((160, 160))))
    for seed in range(10, 30):
        make.put(f"other{seed}.png", make.png(seed, width=160, height=120))
    found = report(make.root)
    assert found["near_duplicates"] == [["big.png", "compressed.jpg", "small.png"]]
    assert found["n_near_duplicates"] == 2
    assert found["duplicates"] == [["big.png", "copy.png"]]


def test_flat_pictures_of_different_colours_are_different(make):
    for number, colour in enumerate([(200, 30, 60), (205, 30, 60), (200, 30, 90), (0, 0, 0), (255, 255, 255)]):
        make.put(f"{number}.png", make.encode(Image.new("RGB", (32, 32), colour)))
    assert report(make.root)["n_near_duplicates"] == 0


def test_similar_groups_agree_with_comparing_every_pair():
    draw = np.random.default_rng(5)
    base = draw.integers(0, 256, (40, 64, 64, 3), dtype=np.uint8)
    near = [np.clip(b + draw.normal(0, spread, b.shape), 0, 255).astype(np.uint8) for b in base for spread in (0, 3, 9)]
    thumbnails = np.stack([thumbnail(picture) for picture in near])
    found = similar_groups(thumbnails, np.full((len(near), 2), 64, np.int32))
    flat = thumbnails.reshape(len(near), -1).astype(float)
    links = {row: {row} for row in range(len(near))}
    for a in range(len(near)):
        for b in range(a):
            distance = np.sqrt(((flat[a] - flat[b]) ** 2).mean())
            contrast = [np.sqrt(flat[row].reshape(-1, 3).var(axis=0).mean()) for row in (a, b)]
            if distance <= 1 + 0.06 * min(contrast):
                joined = links[a] | links[b]
                for member in joined:
                    links[member] = joined
    want = sorted({tuple(sorted(group)) for group in links.values() if len(group) > 1})
    assert sorted(tuple(group.tolist()) for group in found) == want
    assert want


def test_a_crowd_of_black_frames_is_one_group():
    draw = np.random.default_rng(6)
    frames = np.clip(draw.normal(6, 0.7, (1500, 10, 10, 3)), 0, 255).astype(np.uint8)
    others = draw.integers(0, 256, (50, 10, 10, 3), dtype=np.uint8)
    found = similar_groups(np.concatenate([others, frames]), np.full((1550, 2), 64, np.int32))
    assert len(found) == 1
    assert len(found[0]) >= 1490
    assert found[0][0] == 50


def test_names_that_are_not_utf8_reach_the_report(make):
    (make.root / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
    (make.root / os.fsdecode(b"ok\xe9.png")).write_bytes(make.png())
    found = report(make.root)
    assert found["unreadable"] == [{"id": "caf%E9.png", "reason": "empty (0 bytes)"}]
    json.dumps(found).encode("utf-8")


@pytest.mark.filterwarnings("ignore::simcore.errors.SimcoreWarning")
def test_inspect_and_embed_agree_on_what_is_readable(make, tmp_path):
    """They decode at different scales; a file cut or changed anywhere must be readable to both or to neither."""
    random = np.random.default_rng(0)
    for number in range(60):
        image = Image.fromarray(make.pixels(number, width=200, height=160))
        kind, extension = (("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"))[number % 3]
        data = bytearray(make.encode(image, kind))
        place = int(random.integers(2, len(data)))
        if number % 2:
            data[place] ^= int(random.integers(1, 256))
        make.put(f"{number:02d}.{extension}", bytes(data[:place] if number % 4 == 0 else data))
    told = report(make.root)
    encoder = load_encoder("timm:test_resnet@random", image_size=32, device="cpu")
    rows = Embedder(encoder, num_workers=0, quiet=True)(make.root, tmp_path / "store")
    bad = {one["id"] for one in told["unreadable"]} | {one["id"] for one in told["refused"]}
    assert set(rows.table["id"].to_pylist()) == set(open_images(make.root).table["id"].to_pylist()) - bad
    assert 5 < len(bad) < 55
