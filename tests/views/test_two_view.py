"""The whole recipe: against torchvision's pipeline, image by image and in distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as reference
from scipy import stats
from torchvision.transforms import v2

from simcore.errors import UsageError
from simcore.views import ImageBatch, Photometric, TwoView, collate
from simcore.views._placement import random_resized_crop

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
FUNCTIONS = [
    reference.adjust_brightness,
    reference.adjust_contrast,
    reference.adjust_saturation,
    reference.adjust_hue,
]


def images(num, low=20, high=60, seed=0):
    rng = np.random.default_rng(seed)
    shapes = rng.integers(low, high, (num, 2))
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in shapes]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def literal_views(pictures, size, photometric, rng):
    """The recipe said again, one image and one torchvision call at a time, with the documented order of draws."""
    sizes = torch.tensor([picture.shape[:2] for picture in pictures])
    views = []
    for _ in range(2):
        placement = random_resized_crop(sizes, size, scale=(0.2, 1.0), flip_probability=0.5, generator=rng)
        colours = photometric.draw(len(pictures), rng)
        view = []
        for row, picture in enumerate(pictures):
            box = [*placement.start[row].tolist(), *placement.length[row].tolist()]
            image = torch.from_numpy(picture).permute(2, 0, 1).float() / 255
            image = reference.resized_crop(image, *box, [size, size], antialias=True)
            image = reference.horizontal_flip(image) if placement.flipped[row] else image
            view.append(reference.normalize(literal_colours(image, colours, row, photometric), MEAN, STD))
        views.append(torch.stack(view))
    return views


def literal_colours(image, colours, row, photometric):
    if colours.jittered[row]:
        for operation in colours.order[row].tolist():
            image = FUNCTIONS[operation](image, float(colours.factors[row, operation]))
    if colours.grayscale[row]:
        image = reference.rgb_to_grayscale(image, num_output_channels=3)
    if colours.blurred[row]:
        image = reference.gaussian_blur(image, [3, 3], [float(colours.sigma[row])] * 2)
    if colours.solarized[row]:
        image = reference.solarize(image, photometric.solarize_threshold)
    return image


@pytest.mark.parametrize("threads", [1, 2])
def test_equals_the_recipe_image_by_image(threads):
    photometric = Photometric(blur_probability=0.5, solarize_probability=0.3)
    pictures = images(60)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        views = TwoView(image_size=32, photometric=photometric)(collate(pictures), generator())
    finally:
        torch.set_num_threads(before)
    for view, expected in zip(views, literal_views(pictures, 32, photometric, generator()), strict=True):
        assert view.dtype == torch.float32
        wrong = (view - expected).abs().amax(dim=(1, 2, 3)) > 1e-4
        assert wrong.sum() <= 1  # a value within rounding of the solarisation threshold may fall on either side


def test_is_distributed_as_torchvisions_pipeline():
    """Per-view statistics of 1,500 views of one image, theirs against ours."""
    picture = images(1, 48, 49)[0]
    picture = (picture * np.array([1.0, 0.6, 0.2])).astype(np.uint8)  # a cast, so that colour operations show
    picture[:, :24] //= 2
    num = 1500
    ours = TwoView(image_size=16)(collate([picture] * num), generator())[0]
    theirs = torchvision_views(picture, 16, num)
    for statistic in (
        lambda x: x.mean(dim=(1, 2, 3)),
        lambda x: x.std(dim=(1, 2, 3)),
        lambda x: (x[:, 0] - x[:, 1]).mean(dim=(1, 2)),
        lambda x: (x[:, 1] - x[:, 2]).mean(dim=(1, 2)),
        lambda x: x.amax(dim=(1, 2, 3)),
        lambda x: x[:, 0, 0, 0] - x[:, 0, 0, -1],
    ):
        assert stats.ks_2samp(statistic(ours), statistic(theirs)).pvalue > 1e-3


def torchvision_views(picture, size, num):
    torch.manual_seed(3)
    pipeline = v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(0.2, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
            v2.RandomGrayscale(0.2),
            v2.Normalize(MEAN, STD),
        ]
    )
    image = torch.from_numpy(picture).permute(2, 0, 1).float() / 255
    return torch.stack([pipeline(image) for _ in range(num)])


@pytest.mark.parametrize(("num", "size"), [(40, 64), (3, 300)])
def test_the_same_generator_gives_the_same_bytes_for_any_number_of_threads(num, size):
    batch = collate(images(num))
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(TwoView(image_size=size)(batch, generator(5)))
    torch.set_num_threads(before)
    for views in results[1:]:
        assert all(torch.equal(view, first) for view, first in zip(views, results[0], strict=True))


def test_the_two_views_differ_and_the_generator_moves_on():
    batch, rng = collate(images(6)), generator()
    first, second = TwoView(image_size=16)(batch, rng)
    third, _ = TwoView(image_size=16)(batch, rng)
    assert not torch.allclose(first, second)
    assert not torch.allclose(first, third)


def test_the_second_view_may_have_its_own_colours():
    plain = Photometric(jitter_probability=0, grayscale_probability=0)
    views = TwoView(image_size=16, photometric=plain, second=Photometric(grayscale_probability=1))(
        collate(images(6)), generator()
    )
    spread = [(view * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]) for view in views]
    assert (spread[0].amax(dim=1) - spread[0].amin(dim=1)).max() > 0.1
    assert (spread[1].amax(dim=1) - spread[1].amin(dim=1)).max() < 1e-5


def test_autocast_and_gradients_stay_out():
    batch = collate(images(6))
    expected = TwoView(image_size=16, photometric=Photometric(blur_probability=1))(batch, generator())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        views = TwoView(image_size=16, photometric=Photometric(blur_probability=1))(batch, generator())
    assert torch.equal(views[0], expected[0])
    assert not views[0].requires_grad


@pytest.mark.parametrize(
    "settings",
    [{"image_size": 0}, {"min_scale": 0}, {"min_scale": 0.9, "max_scale": 0.5}, {"flip_probability": 1.5}],
)
def test_refuses_settings_that_make_no_view(settings):
    with pytest.raises(UsageError):
        TwoView(**settings)


@pytest.mark.parametrize(
    "settings", [{"hue": 0.6}, {"brightness": -1}, {"jitter_probability": 2}, {"min_sigma": 3}, {"min_sigma": 0}]
)
def test_refuses_colours_out_of_range(settings):
    with pytest.raises(UsageError):
        Photometric(**settings)


def test_what_lies_beside_an_image_on_the_canvas_is_never_seen():
    batch = collate(images(30, low=1, high=40))
    littered = batch.pixels.clone(memory_format=torch.preserve_format)
    for pixels, (height, width) in zip(littered, batch.sizes.tolist(), strict=True):
        pixels[:, height:], pixels[:, :, width:] = 255, 255
    for maker in (TwoView(image_size=24), TwoView(image_size=3)):
        views = maker(ImageBatch(littered, batch.sizes), generator())
        for view, expected in zip(views, maker(batch, generator()), strict=True):
            assert torch.equal(view, expected)
            assert view.isfinite().all()


def test_any_memory_layout_gives_the_same_views():
    batch = collate(images(10))
    planes = ImageBatch(batch.pixels.contiguous(), batch.sizes)
    assert planes.pixels.stride() != batch.pixels.stride()
    assert torch.equal(TwoView(image_size=24)(planes, generator())[1], TwoView(image_size=24)(batch, generator())[1])
