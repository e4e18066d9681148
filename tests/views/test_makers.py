"""Multi-crop, masked, supervised and central views, each against its recipe said in torchvision's words."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as reference
from scipy import stats
from torchvision.transforms import InterpolationMode, v2

from simcore.errors import UsageError
from simcore.views import (
    CenterView,
    ImageBatch,
    Masked,
    MultiCrop,
    Photometric,
    Supervised,
    TwoView,
    collate,
    draw_patch_masks,
    joined,
)
from simcore.views._placement import random_resized_crop

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def images(num, low=20, high=60, seed=0):
    rng = np.random.default_rng(seed)
    shapes = rng.integers(low, high, (num, 2))
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in shapes]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def as_float(picture):
    return torch.from_numpy(picture).permute(2, 0, 1).float() / 255


def crops(pictures, size, interpolation, rng):
    """Random resized crop and flip, one image at a time, from the documented draws."""
    sizes = torch.tensor([picture.shape[:2] for picture in pictures])
    placement = random_resized_crop(sizes, size, scale=(0.2, 1.0), flip_probability=0.5, generator=rng)
    views = []
    for row, picture in enumerate(pictures):
        box = [*placement.start[row].tolist(), *placement.length[row].tolist()]
        view = reference.resized_crop(
            as_float(picture), *box, [size, size], interpolation=interpolation, antialias=True
        )
        view = reference.horizontal_flip(view) if placement.flipped[row] else view
        views.append(reference.normalize(view, MEAN, STD))
    return torch.stack(views)


@pytest.mark.parametrize(
    ("maker", "interpolation"),
    [(Supervised, InterpolationMode.BILINEAR), (Masked, InterpolationMode.BICUBIC)],
)
def test_supervised_and_masked_crop_and_flip_only(maker, interpolation):
    pictures = images(20)
    [view] = maker(image_size=24)(collate(pictures), generator())
    torch.testing.assert_close(view, crops(pictures, 24, interpolation, generator()), atol=1e-4, rtol=0)


def test_multi_crop_gives_global_then_local_views():
    views = MultiCrop(image_size=56, num_local=3)(collate(images(5)), generator())
    assert [tuple(view.shape) for view in views] == [(5, 3, 56, 56)] * 2 + [(5, 3, 24, 24)] * 3
    assert MultiCrop(image_size=224)._recipes()[2].size == 96


def test_multi_crop_starts_with_the_two_views_of_the_same_draws():
    batch = collate(images(8))
    views = MultiCrop(image_size=32, num_local=1)(batch, generator(4))
    for ours, expected in zip(views, TwoView(image_size=32)(batch, generator(4)), strict=False):
        assert torch.equal(ours, expected)


def test_local_views_show_what_torchvisions_small_crops_show():
    """A ramp image: the mean of a view tells where its crop lies, the spread how large it is."""
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, :, None] * 3, (64, 64, 3)).copy()
    plain = Photometric(jitter_probability=0, grayscale_probability=0)
    ours = MultiCrop(image_size=56, num_local=1, photometric=plain)(collate([ramp] * 1500), generator())[2]
    torch.manual_seed(1)
    pipeline = v2.Compose([v2.RandomResizedCrop(24, scale=(0.05, 0.2), antialias=True), v2.Normalize(MEAN, STD)])
    theirs = torch.stack([pipeline(as_float(ramp)) for _ in range(1500)])
    for statistic in (lambda x: x.mean(dim=(1, 2, 3)), lambda x: x[:, 0].std(dim=(1, 2))):
        assert stats.ks_2samp(statistic(ours), statistic(theirs)).pvalue > 1e-3


def test_each_kind_of_view_may_have_its_own_colours():
    gray, plain = Photometric(grayscale_probability=1), Photometric(jitter_probability=0, grayscale_probability=0)
    maker = MultiCrop(image_size=28, num_local=2, photometric=plain, second=gray, local=gray)
    views = maker(collate(images(4)), generator())
    scale, shift = torch.tensor(STD)[:, None, None], torch.tensor(MEAN)[:, None, None]
    spreads = [float((view * scale + shift).std(dim=1).mean()) for view in views]
    assert spreads[0] > 0.05
    assert max(spreads[1:]) < 1e-5


@pytest.mark.parametrize("interpolation", [InterpolationMode.BILINEAR, InterpolationMode.BICUBIC])
def test_center_view_is_resize_and_center_crop_of_each_image(interpolation):
    pictures = images(12, low=10, high=90)
    [view] = CenterView(image_size=28, interpolation=interpolation.value)(collate(pictures))
    for ours, picture in zip(view, pictures, strict=True):
        whole = reference.resize(as_float(picture), [32], interpolation=interpolation, antialias=True)
        expected = reference.normalize(reference.center_crop(whole, [28, 28]), MEAN, STD)
        torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)


def test_masks_part_the_patches():
    masks = draw_patch_masks(50, 49, generator())
    assert masks.shown.shape == (50, 12)  # int(49 · 0.25)
    everything = torch.cat([masks.shown, masks.hidden], dim=1)
    assert torch.equal(everything.sort(dim=1).values, torch.arange(49).expand(50, 49))
    assert torch.equal(everything.gather(1, masks.restore), torch.arange(49).expand(50, 49))
    assert torch.equal(masks.is_hidden.sum(dim=1), torch.full((50,), 37))
    assert not masks.is_hidden.gather(1, masks.shown).any()


def test_masks_hide_every_patch_equally_often():
    hidden = draw_patch_masks(4000, 16, generator()).is_hidden.double().mean(dim=0)
    assert (hidden - 0.75).abs().max() < 0.03


@pytest.mark.parametrize(
    ("maker", "settings"),
    [
        (MultiCrop, {"num_local": -1}),
        (MultiCrop, {"local_size": 0}),
        (MultiCrop, {"min_local_scale": 0.3}),
        (Masked, {"min_scale": 0}),
        (Supervised, {"std": (0.2, 0.0, 0.2)}),
        (CenterView, {"image_size": 32, "resize_size": 31}),
        (CenterView, {"image_size": 0}),
        (CenterView, {"interpolation": "nearest"}),
    ],
)
def test_refuses_settings_that_make_no_view(maker, settings):
    with pytest.raises(UsageError):
        maker(**settings)


@pytest.mark.parametrize("mask_ratio", [1.0, 0.99, -0.5])
def test_refuses_masks_that_show_nothing(mask_ratio):
    with pytest.raises(UsageError, match="mask_ratio"):
        draw_patch_masks(2, 16, generator(), mask_ratio=mask_ratio)


def recolour(blur):
    return Photometric(blur_probability=blur, solarize_probability=0.3)


@pytest.mark.parametrize(
    "maker",
    [
        TwoView(image_size=20, photometric=recolour(0.5), second=recolour(0.1)),
        MultiCrop(image_size=24, num_local=3, local=recolour(0.5)),
        Masked(image_size=20),
        Supervised(image_size=20),
    ],
    ids=lambda maker: type(maker).__name__,
)
def test_long_passes_give_the_views_of_short_ones(maker, monkeypatch):
    random = np.random.default_rng(0)
    sizes = [(30, 40), (50, 20), (33, 33)] * 13
    batch = collate([random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes])
    short = maker(batch, torch.Generator().manual_seed(1))
    monkeypatch.setattr(ImageBatch, "short_passes", False)
    long = maker(batch, torch.Generator().manual_seed(1))
    assert len(short) == len(long)
    for one, other in zip(short, long, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_batches_are_joined_on_one_canvas_unless_it_were_much_larger(monkeypatch):
    random = np.random.default_rng(0)
    sizes = [(30, 40), (35, 20), (10, 12), (300, 20)]
    images = [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    batches = [collate(images[:2]), collate(images[2:3])]
    assert joined(batches) == batches
    monkeypatch.setattr(ImageBatch, "short_passes", False)
    (whole,) = joined([collate(images[:1]), collate(images[1:2])])
    assert torch.equal(whole.pixels, collate(images[:2]).pixels)
    assert torch.equal(whole.sizes, collate(images[:2]).sizes)
    assert len(joined([collate(images[:3]), collate(images[3:])])) == 2
