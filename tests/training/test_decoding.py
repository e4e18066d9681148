from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from simcore.images import ImageSource, open_images
from simcore.training import make_fabric
from simcore.training._data import ViewBatches
from simcore.training._decoding import PIECE, Cache, Decoder, cached, decoded
from simcore.training._plan import BatchPlan
from simcore.views import TwoView


def source(folder: Path, *sizes: tuple[int, int]) -> ImageSource:
    """Images of (height, width), whose pixels hold their row and column."""
    folder.mkdir(exist_ok=True)
    for number, (height, width) in enumerate(sizes):
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[..., 0] = np.linspace(0, 255, width).astype(np.uint8)
        pixels[..., 1] = np.linspace(0, 255, height).astype(np.uint8)[:, None]
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
    return open_images(folder)


def decoder(images: ImageSource, short_side: int = 20, max_aspect: float = 6.0) -> Decoder:
    return Decoder(source=images, short_side=short_side, max_aspect=max_aspect)


@pytest.mark.parametrize(
    ("size", "expected"), [((20, 30), (20, 30)), ((39, 50), (39, 50)), ((40, 50), (20, 25)), ((210, 130), (35, 22))]
)
def test_images_keep_their_short_side_and_are_at_most_twice_as_large(
    tmp_path: Path, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    image = decoder(source(tmp_path, size)).image(0)
    assert image.shape[:2] == expected
    assert abs(int(image[0, 0, 0]) - 0) < 16
    assert abs(int(image[-1, -1, 1]) - 255) < 16


def test_of_a_very_long_image_the_middle_is_kept(tmp_path: Path) -> None:
    image = decoder(source(tmp_path, (20, 400)), max_aspect=5.0).image(0)
    assert image.shape[:2] == (20, 100)
    assert image[0, :, 0].mean() == pytest.approx(127.5, abs=1.0)


def test_the_views_of_a_very_long_image_show_its_middle_either_way(tmp_path: Path) -> None:
    images = source(tmp_path, (20, 400))
    views = TwoView(image_size=8, flip_probability=0.0)
    made = []
    for aspect in (1000.0, 4 / 3 / views.min_scale):
        piece = decoder(images, max_aspect=aspect).piece(np.array([0, 0]))
        assert piece.images is not None
        made.append(torch.stack(views(piece.images, torch.Generator().manual_seed(3))))
    assert torch.allclose(made[0], made[1], atol=1e-3)


def test_a_source_beyond_the_limit_is_not_cached(tmp_path: Path) -> None:
    one = decoder(source(tmp_path, *[(30, 30)] * 8), short_side=30)
    assert isinstance(cached(one, 1, 0, quiet=True), Cache)
    assert cached(one, 0, 0, quiet=True) is None
    large = decoder(source(tmp_path / "large", *[(300, 300)] * 8), short_side=300)
    assert cached(large, 1, 0, quiet=True) is None


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_travel_in_pieces_and_come_out_whole(tmp_path: Path, num_workers: int) -> None:
    images = source(tmp_path, *[(20 + number % 3, 20) for number in range(2 * PIECE + 10)])
    (tmp_path / "005.png").write_bytes(b"")
    plan = BatchPlan(num_images=len(images), batch_size=PIECE + 5, seed=0)
    views = TwoView(image_size=8)
    batches = ViewBatches(images, decoder(images), plan, views, make_fabric("cpu"), num_workers=num_workers)
    sizes = []
    for step in range(plan.steps_per_epoch):
        pieces = batches.decoded(0, step)
        rows = [row for piece in pieces for row in piece.rows] + [row for p in pieces for row, _ in p.faults]
        assert sorted(rows) == sorted(plan.rows(0, step).tolist())
        sizes.append([len(piece.rows) + len(piece.faults) for piece in pieces])
    assert sizes == [[PIECE, 5], [PIECE, 5]]
    made = list(batches(0, 0))
    assert sum(len(batch.views[0]) for batch in made if batch is not None) == 2 * PIECE + 9
    assert batches.counts(0) == {"num_images": 2 * PIECE + 9, "images_left_out": 0, "num_unreadable": 1}
    again = next(batches(0, 1))
    assert again is not None
    assert made[1] is not None
    assert all(torch.equal(a, b) for a, b in zip(again.views, made[1].views, strict=True))
    batches.close()


def test_decoding_ahead_keeps_the_order(tmp_path: Path) -> None:
    images = source(tmp_path, *[(20, 20)] * 12)
    pieces = [np.array([row, 11 - row]) for row in range(12)]
    found = list(decoded(decoder(images), pieces, 2, pin_memory=False))
    assert [piece.rows for piece in found] == [(row, 11 - row) for row in range(12)]
