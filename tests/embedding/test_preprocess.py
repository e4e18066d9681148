"""One-step resize and crop against torchvision's two steps."""

from __future__ import annotations

import time

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import CenterCrop, InterpolationMode, Resize

from simcore.embedding.preprocess import Transform, proportional_resize

SIZES = [(500, 375), (375, 500), (64, 64), (300, 299), (640, 427), (97, 641), (1024, 131), (31, 20), (256, 256)]


def photo(width: int, height: int, seed: int) -> np.ndarray:
    """Smooth colour fields with mild noise: the statistics that photographs have and white noise has not."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), int)
    return np.clip(smooth + rng.integers(-12, 13, (height, width, 3)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("image_size", [224, 64, 33])
def test_equals_torchvision_within_two_levels(interpolation, image_size):
    resize = proportional_resize(image_size)
    transform = Transform(image_size=image_size, resize_size=resize, interpolation=interpolation)
    for seed, (width, height) in enumerate(SIZES):
        pixels = photo(width, height, seed)
        steps = CenterCrop(image_size)(Resize(resize, InterpolationMode(interpolation))(Image.fromarray(pixels)))
        difference = np.abs(np.asarray(steps).astype(int) - transform(pixels, width, height).astype(int))
        assert difference.max() <= 2, (width, height)
        # Pillow picks the order of its two passes by their cost, and rounds to whole levels between them.
        assert difference.mean() < 0.3, (width, height)


def test_a_reduced_decoding_keeps_the_geometry_of_the_true_size():
    pixels = photo(801, 603, 1)
    transform = Transform(image_size=64, resize_size=73)
    half = np.asarray(Image.fromarray(pixels).resize((401, 302), Image.Resampling.BOX))
    whole, reduced = transform(pixels, 801, 603).astype(int), transform(half, 801, 603).astype(int)
    assert np.abs(whole - reduced).mean() < 2


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (400, 3), (3, 400), (1, 60_000), (60_000, 1)])
def test_extreme_shapes_are_cheap_and_keep_their_colour(size, interpolation):
    pixels = np.full((size[1], size[0], 3), (200, 30, 60), np.uint8)
    began = time.perf_counter()
    given = Transform(image_size=224, resize_size=256, interpolation=interpolation)(pixels, *size)
    assert time.perf_counter() - began < 2.0
    assert given.shape == (224, 224, 3)
    assert np.array_equal(np.unique(given.reshape(-1, 3), axis=0), [[200, 30, 60]])


def test_the_proportion_is_that_of_256_to_224():
    assert [proportional_resize(size) for size in (224, 32, 64, 96, 7, 1)] == [256, 37, 73, 110, 8, 1]
