"""RandAugment against torchvision, one image at a time, and what is drawn."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as vision

from simcore.errors import UsageError
from simcore.views import RandAugment, Supervised, WeakStrong, collate
from simcore.views._rand_augment import OPERATIONS, apply, blotted


def images(num=6, size=12, seed=0):
    return torch.rand(num, 3, size, size, generator=torch.Generator().manual_seed(seed))


def affine(image, angle=0.0, shift=(0, 0), shear=(0.0, 0.0)):
    return vision.affine(
        image, angle, list(shift), 1.0, list(shear), interpolation=InterpolationMode.BILINEAR, fill=[0.5]
    )


def degrees(slope):
    return math.degrees(math.atan(slope))


# What torchvision makes of one image at (level, sign).
BY_TORCHVISION = {
    "identity": lambda image, level, sign: image,
    "auto_contrast": lambda image, level, sign: vision.autocontrast(image),
    "equalize": lambda image, level, sign: vision.equalize(image),
    "brightness": lambda image, level, sign: vision.adjust_brightness(image, 0.95 - 0.9 * level),
    "contrast": lambda image, level, sign: vision.adjust_contrast(image, 0.95 - 0.9 * level),
    "saturation": lambda image, level, sign: vision.adjust_saturation(image, 0.95 - 0.9 * level),
    "sharpness": lambda image, level, sign: vision.adjust_sharpness(image, 0.95 - 0.9 * level),
    "posterize": lambda image, level, sign: vision.posterize(image, 8 - round(4 * level)),
    "solarize": lambda image, level, sign: vision.solarize(image, 1 - level),
    "rotate": lambda image, level, sign: affine(image, angle=-30 * level * sign),
    "shear_x": lambda image, level, sign: affine(image, shear=(degrees(0.3 * level * sign), 0.0)),
    "shear_y": lambda image, level, sign: affine(image, shear=(0.0, degrees(0.3 * level * sign))),
    "translate_x": lambda image, level, sign: affine(image, shift=(-3.6 * level * sign, 0)),
    "translate_y": lambda image, level, sign: affine(image, shift=(0, -3.6 * level * sign)),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_is_torchvisions(name):
    batch = images()
    levels = torch.tensor([0.0, 0.2, 0.4, 0.6, 0.9, 1.0])
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    number = torch.full((6,), OPERATIONS.index(name))
    made = apply(batch, number, levels, signs)
    for image, level, sign, got in zip(batch, levels.tolist(), signs.tolist(), made, strict=True):
        wanted = BY_TORCHVISION[name](image, level, sign)
        # torchvision leaves an image half transparent with the fill at a border; the inside must agree.
        inside = (..., slice(4, -4), slice(4, -4)) if name in OPERATIONS[9:] else ...
        torch.testing.assert_close(got[inside], wanted[inside], atol=2e-5, rtol=1e-4)


def test_a_mixed_batch_is_done_as_each_image_alone():
    batch = images(28)
    operation = torch.arange(28) % len(OPERATIONS)
    level, sign = torch.rand(28, generator=torch.Generator().manual_seed(1)), torch.ones(28)
    together = apply(batch, operation, level, sign)
    for row in range(28):
        one = slice(row, row + 1)
        torch.testing.assert_close(together[one], apply(batch[one], operation[one], level[one], sign[one]))
    assert batch.equal(images(28))
    assert 0 <= together.min() <= together.max() <= 1


def test_the_blot_is_a_square_cut_at_the_border():
    white = torch.ones(2, 3, 8, 8)
    made = blotted(white, torch.tensor([[0.5, 0.5], [0.0, 1.0]]), 0.5)
    wanted = torch.ones(2, 3, 8, 8)
    wanted[0, :, 2:6, 2:6] = 0.5
    wanted[1, :, :2, 6:] = 0.5
    assert made.equal(wanted)
    assert blotted(white, torch.full((2, 2), 0.5), 0.0).equal(white)


def test_draws_are_even_and_within_the_magnitude():
    strokes = RandAugment(magnitude=5).draw(4000, torch.Generator().manual_seed(0))
    assert strokes.operation.shape == (4000, 2)
    assert stats.chisquare(strokes.operation.flatten().bincount()).pvalue > 1e-3
    assert stats.kstest(strokes.level.flatten(), stats.uniform(0, 0.5).cdf).pvalue > 1e-3
    assert set(strokes.sign.unique().tolist()) == {-1.0, 1.0}
    assert strokes.sign.mean().abs() < 0.05


def test_weak_and_strong_views():
    batch = collate([image.permute(1, 2, 0).mul(255).byte().numpy() for image in images(5, 20)])
    views = WeakStrong(image_size=16, num_weak=2, num_strong=2)(batch, torch.Generator().manual_seed(3))
    assert [tuple(view.shape) for view in views] == [(5, 3, 16, 16)] * 4
    again = WeakStrong(image_size=16, num_weak=2, num_strong=2)(batch, torch.Generator().manual_seed(3))
    assert all(a.equal(b) for a, b in zip(views, again, strict=True))
    weak = Supervised(image_size=16)(batch, torch.Generator().manual_seed(3))[0]
    assert views[0].equal(weak)
    plain = WeakStrong(image_size=16, num_weak=0, rand_augment=RandAugment(num_operations=0, cutout=0))
    torch.testing.assert_close(plain(batch, torch.Generator().manual_seed(3))[0], weak, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("wrong", [{"num_operations": -1}, {"magnitude": 11}, {"cutout": 1.5}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError):
        RandAugment(**wrong)


def test_no_view_at_all_is_refused():
    with pytest.raises(UsageError, match="no view"):
        WeakStrong(num_weak=0, num_strong=0)
