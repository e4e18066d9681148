"""Batches of images of different sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from simcore.errors import SimcoreError
from simcore.views import CenterView, ImageBatch, TwoView, collate


def image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_pads_to_the_largest_at_the_right_and_the_bottom():
    images = [image(3, 7), image(5, 2)]
    batch = collate(images)
    assert batch.pixels.shape == (2, 3, 5, 7)
    assert batch.sizes.tolist() == [[3, 7], [5, 2]]
    for pixels, original in zip(batch.pixels.numpy(), images, strict=True):
        height, width, _ = original.shape
        np.testing.assert_array_equal(pixels[:, :height, :width].transpose(1, 2, 0), original)
        assert pixels.sum(dtype=np.int64) == original.sum(dtype=np.int64)


def test_moves_its_pixels_and_keeps_its_sizes():
    moved = collate([image(3, 7)]).to("meta")
    assert moved.device.type == "meta"
    assert moved.sizes.device.type == "cpu"


def test_comes_whole_out_of_worker_processes():
    loader = DataLoader([image(4, 4 + i, i) for i in range(5)], batch_size=3, collate_fn=collate, num_workers=1)
    batches = list(loader)
    assert [type(batch) for batch in batches] == [ImageBatch, ImageBatch]
    assert torch.equal(batches[1].pixels, collate([image(4, 7, 3), image(4, 8, 4)]).pixels)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4), np.uint8),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_refuses_what_is_no_image(bad):
    with pytest.raises(SimcoreError, match="must be uint8"):
        collate([image(4, 4), bad])


def test_refuses_an_empty_batch():
    with pytest.raises(SimcoreError, match="at least one"):
        collate([])


@pytest.mark.parametrize(("height", "width"), [(70, 2000), (2001, 70), (65, 1301), (3, 700)])
def test_a_needle_loses_its_ends_and_no_view_can_tell(height, width):
    needle = image(height, width)
    trimmed = collate([needle] * 4)
    whole = ImageBatch(
        torch.from_numpy(needle).permute(2, 0, 1).expand(4, 3, height, width), torch.tensor([[height, width]] * 4)
    )
    assert trimmed.sizes.max() <= 8 * 70 + 1
    views = [TwoView(image_size=16)(batch, torch.Generator().manual_seed(1)) for batch in (trimmed, whole)]
    for ours, expected in zip(*views, strict=True):
        torch.testing.assert_close(ours, expected)
    centers = [CenterView(image_size=16)(batch)[0] for batch in (trimmed, whole)]
    assert (centers[0] - centers[1]).abs().max() < 0.05


def test_images_of_ordinary_shape_stay_whole():
    assert collate([image(70, 559), image(1, 500)]).sizes.tolist() == [[70, 559], [1, 500]]
