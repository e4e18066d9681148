"""Where views lie: the boxes of RandomResizedCrop, against torchvision's own draws and rule."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torchvision.transforms import v2

from simcore.views._placement import random_resized_crop

NUM = 3000


def draw(height, width, scale, seed=0, num=NUM):
    sizes = torch.tensor([[height, width]] * num)
    generator = torch.Generator().manual_seed(seed)
    return random_resized_crop(sizes, 32, scale=scale, flip_probability=0.5, generator=generator)


def torchvision_boxes(height, width, scale, num=NUM):
    torch.manual_seed(1)
    transform = v2.RandomResizedCrop(32, scale=scale)
    image = torch.zeros(3, height, width)
    boxes = [transform.make_params([image]) for _ in range(num)]
    return torch.tensor([[box[key] for key in ("top", "left", "height", "width")] for box in boxes])


@pytest.mark.parametrize(
    ("height", "width", "scale"),
    [(64, 64, (0.2, 1.0)), (50, 90, (0.2, 1.0)), (120, 40, (0.5, 1.0)), (64, 64, (0.05, 0.2)), (200, 20, (0.2, 1.0))],
)
def test_boxes_are_distributed_as_torchvisions(height, width, scale):
    placement = draw(height, width, scale)
    ours = torch.cat([placement.start, placement.length], dim=1)
    theirs = torchvision_boxes(height, width, scale)
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-3
    center = (ours[:, :2] + ours[:, 2:] / 2).double(), (theirs[:, :2] + theirs[:, 2:] / 2).double()
    assert stats.ks_2samp(center[0][:, 0] + center[0][:, 1], center[1][:, 0] + center[1][:, 1]).pvalue > 1e-3


def test_boxes_lie_within_their_own_image():
    sizes = torch.randint(1, 40, (2000, 2), generator=torch.Generator().manual_seed(2))
    generator = torch.Generator().manual_seed(3)
    placement = random_resized_crop(sizes, 8, scale=(0.05, 1.0), flip_probability=0.5, generator=generator)
    assert (placement.start >= 0).all()
    assert (placement.length >= 1).all()
    assert (placement.start + placement.length <= sizes).all()


@pytest.mark.parametrize(("height", "width"), [(300, 10), (10, 300), (1, 1), (1, 400)])
def test_falls_back_to_torchvisions_central_box(height, width):
    """No box of at least the whole area fits into a very long image, so all tries fail there."""
    placement = draw(height, width, (1.0, 1.0), num=20)
    expected = torchvision_boxes(height, width, (1.0, 1.0), num=20)
    assert torch.equal(torch.cat([placement.start, placement.length], dim=1), expected)


def literal_box(height, width, scale, areas, aspects, position):
    """Torchvision's rule said again for one image; every argument after ``scale`` holds uniform draws."""
    for area, aspect in zip(areas, aspects, strict=True):
        target = height * width * (scale[0] + (scale[1] - scale[0]) * area)
        ratio = math.exp(math.log(3 / 4) + (math.log(4 / 3) - math.log(3 / 4)) * aspect)
        h, w = round(math.sqrt(target / ratio)), round(math.sqrt(target * ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(position[0] * (height - h + 1)), int(position[1] * (width - w + 1)), h, w
    h, w = height, width
    if width / height < 3 / 4:
        h = round(width / (3 / 4))
    elif width / height > 4 / 3:
        w = round(height * (4 / 3))
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize("scale", [(0.2, 1.0), (0.05, 0.2), (0.9, 1.0)])
def test_boxes_follow_torchvisions_rule_from_the_documented_draws(scale):
    sizes = torch.randint(1, 80, (500, 2), generator=torch.Generator().manual_seed(9))
    generator, same = torch.Generator().manual_seed(4), torch.Generator().manual_seed(4)
    placement = random_resized_crop(sizes, 8, scale=scale, flip_probability=0.5, generator=generator)
    areas, aspects, positions = (torch.rand(500, n, generator=same, dtype=torch.float64).tolist() for n in (10, 10, 2))
    flips = torch.rand(500, generator=same, dtype=torch.float64) < 0.5
    drawn = zip(sizes.tolist(), areas, aspects, positions, strict=True)
    expected = [literal_box(*size, scale, *draws) for size, *draws in drawn]
    assert torch.cat([placement.start, placement.length], dim=1).tolist() == [list(box) for box in expected]
    assert torch.equal(placement.flipped, flips)


def test_flips_as_often_as_told():
    sizes = torch.tensor([[8, 8]] * 4000)
    for probability in (0.0, 0.5, 1.0):
        generator = torch.Generator().manual_seed(0)
        placement = random_resized_crop(sizes, 8, scale=(0.2, 1), flip_probability=probability, generator=generator)
        assert placement.flipped.double().mean().item() == pytest.approx(probability, abs=0.04)
