"""Each colour operation against torchvision's, for given factors."""

from __future__ import annotations

import pytest
import torch
import torchvision.transforms.v2.functional as reference

from simcore.views import _colour


@pytest.fixture
def images():
    """Noise, a gray image, black and saturated patches, and few levels so that channels tie."""
    images = torch.rand(8, 3, 20, 30, generator=torch.Generator().manual_seed(0))
    images[0] = images[0, :1]
    images[1, :, :5], images[1, :, 5:10] = 0, 1
    images[2] = (images[2] * 3).round() / 3
    images[3, 0], images[4, 1:] = 1, 0
    return images


def each(function, images, factors):
    return torch.stack([function(image, float(factor)) for image, factor in zip(images, factors, strict=True)])


@pytest.mark.parametrize(
    ("operation", "function"),
    [
        (_colour.BRIGHTNESS, reference.adjust_brightness),
        (_colour.CONTRAST, reference.adjust_contrast),
        (_colour.SATURATION, reference.adjust_saturation),
    ],
)
def test_blend_equals_torchvision(images, operation, function):
    factors = torch.tensor([0.0, 0.2, 0.7, 1.0, 1.2, 1.5, 1.8, 3.0])
    expected = each(function, images, factors)
    changed = _colour.blend_(images.clone(), *_colour.blend_shares(torch.full((8,), operation), factors))
    torch.testing.assert_close(changed, expected, atol=1e-6, rtol=0)


def test_blend_takes_another_operation_for_each_image(images):
    operations, factors = torch.tensor([0, 1, 2, 2, 1, 0, 1, 2]), torch.linspace(0.2, 1.8, 8)
    functions = [reference.adjust_brightness, reference.adjust_contrast, reference.adjust_saturation]
    expected = [functions[op](image, float(f)) for op, image, f in zip(operations, images, factors, strict=True)]
    changed = _colour.blend_(images.clone(), *_colour.blend_shares(operations, factors))
    torch.testing.assert_close(changed, torch.stack(expected), atol=1e-6, rtol=0)


def test_hue_equals_torchvision(images):
    shifts = torch.tensor([-0.5, -0.3, -0.2, -0.01, 0.0, 0.1, 0.2, 0.5])
    expected = each(reference.adjust_hue, images, shifts)
    torch.testing.assert_close(_colour.shift_hue_(images.clone(), shifts), expected, atol=1e-5, rtol=0)


def test_hue_turns_pure_colours_by_hand():
    red, green = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1), torch.tensor([0, 1.0, 0]).view(1, 3, 1, 1)
    torch.testing.assert_close(_colour.shift_hue_(red.clone(), torch.tensor([1 / 3])), green, atol=1e-6, rtol=0)


def test_gray_equals_torchvision(images):
    expected = reference.rgb_to_grayscale(images)
    torch.testing.assert_close(_colour.gray(images), expected, atol=1e-6, rtol=0)


def test_blur_equals_torchvision(images):
    sigmas = torch.linspace(0.1, 2.0, 8)
    expected = torch.stack(
        [reference.gaussian_blur(i, [7, 7], [float(s)] * 2) for i, s in zip(images, sigmas, strict=True)]
    )
    torch.testing.assert_close(_colour.blur(images, sigmas, 7), expected, atol=1e-5, rtol=0)


def test_solarize_equals_torchvision(images):
    torch.testing.assert_close(_colour.solarize(images, 0.5), reference.solarize(images, 0.5))
