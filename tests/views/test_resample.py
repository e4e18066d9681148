"""Crop, resize and mirror against torchvision, image by image."""

from __future__ import annotations

import pytest
import torch
import torchvision.transforms.v2.functional as reference
from torchvision.transforms import InterpolationMode

from simcore.views._placement import Placement, center_crop
from simcore.views._resample import BICUBIC, BILINEAR, Resampling

MODES = {BILINEAR: InterpolationMode.BILINEAR, BICUBIC: InterpolationMode.BICUBIC}
CPU = torch.device("cpu")


def views_of(pixels, placement, size, filter):
    return Resampling(placement, size, filter, CPU).apply(pixels.permute(0, 2, 3, 1), slice(None))


def random_boxes(num, height, width, size, generator):
    sizes = torch.tensor([[height, width]] * num)
    length = (torch.rand(num, 2, generator=generator) * sizes).long() + 1
    start = (torch.rand(num, 2, generator=generator) * (sizes - length + 1)).long()
    flipped = torch.rand(num, generator=generator) < 0.5
    return Placement(start, length, torch.full_like(sizes, size), torch.zeros_like(sizes), flipped)


def cropped(image, placement, row, size, filter):
    box = [*placement.start[row].tolist(), *placement.length[row].tolist()]
    view = reference.resized_crop(image.float() / 255, *box, [size, size], interpolation=MODES[filter], antialias=True)
    return view.flip(-1) if placement.flipped[row] else view


@pytest.mark.parametrize("filter", [BILINEAR, BICUBIC], ids=["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(64, 64, 64), (40, 90, 24), (90, 40, 7), (13, 17, 48), (200, 150, 31), (1, 30, 8), (30, 1, 1), (1, 1, 5)],
)
def test_equals_torchvision_on_random_boxes(height, width, size, filter):
    generator = torch.Generator().manual_seed(height * width)
    pixels = torch.randint(0, 256, (24, 3, height, width), dtype=torch.uint8, generator=generator)
    placement = random_boxes(24, height, width, size, generator)
    placement.length[0] = 1
    placement.start[1], placement.length[1] = 0, torch.tensor([height, width])
    views = views_of(pixels, placement, size, filter)
    for row in range(24):
        expected = cropped(pixels[row], placement, row, size, filter)
        torch.testing.assert_close(views[row], expected, atol=1e-5, rtol=0)


def test_a_crop_of_one_pixel_is_that_pixel_everywhere():
    pixels = torch.arange(75, dtype=torch.uint8).view(1, 3, 5, 5)
    placement = Placement(
        torch.tensor([[2, 3]]),
        torch.tensor([[1, 1]]),
        torch.tensor([[4, 4]]),
        torch.tensor([[0, 0]]),
        torch.tensor([False]),
    )
    views = views_of(pixels, placement, 4, BILINEAR)
    torch.testing.assert_close(views, (pixels[:, :, 2:3, 3:4] / 255).expand(1, 3, 4, 4))


@pytest.mark.parametrize(
    ("height", "width"), [(80, 60), (60, 80), (64, 64), (33, 300), (300, 33), (10, 11), (1, 5), (72, 73)]
)
def test_center_crop_equals_resize_and_center_crop(height, width):
    generator = torch.Generator().manual_seed(height)
    pixels = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8, generator=generator)
    placement = center_crop(torch.tensor([[height, width]] * 2), 56, resize=64)
    views = views_of(pixels, placement, 56, BILINEAR)
    whole = reference.resize(pixels.float() / 255, [64], antialias=True)
    torch.testing.assert_close(views, reference.center_crop(whole, [56, 56]), atol=1e-5, rtol=0)


def test_reads_nothing_outside_the_true_image():
    pixels = torch.full((1, 3, 40, 50), 255, dtype=torch.uint8)
    pixels[:, :, :20, :30] = 51
    placement = center_crop(torch.tensor([[20, 30]]), 14, resize=16)
    torch.testing.assert_close(views_of(pixels, placement, 14, BICUBIC), torch.full((1, 3, 14, 14), 0.2))
