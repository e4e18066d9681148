"""Segmentation from files to figures, and each of its rules against an independent statement."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import tv_tensors

from simcore.cli import main
from simcore.embedding import load_encoder
from simcore.embedding.encoder import Encoder
from simcore.errors import SimcoreError, SimcoreWarning, UsageError
from simcore.images import open_images
from simcore.images.mask_classes import IGNORED, MaskClasses
from simcore.tasks._rebuild import rebuilt
from simcore.tasks._scenes import resized, seeded
from simcore.tasks._segmentation_scenes import MaskScenes, RandomShortSide, masked_sets, train_transform
from simcore.tasks._segmentation_score import confusion, figures, ious
from simcore.tasks._segmenter import Segmenter, dilated, enlarged_classes, pixel_loss
from simcore.tasks.segmentation import Segmentation, load_segmenter

pytest.importorskip("segmentation_models_pytorch", reason="needs the extra [segmentation]")

QUICK = {"crop_size": 32, "epochs": 2, "batch_size": 4, "lr": 0.1, "num_workers": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def encoder():
    return load_encoder("timm:test_resnet@random", image_size=32, device="cpu")


def write(folder, num_images=6, seed=0, size=(44, 36)):
    """Bright rectangles (1) on dark ground (0), with a border of ignored pixels around each."""
    generator = np.random.default_rng(seed)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for i in range(num_images):
        pixels = generator.integers(0, 60, (size[1], size[0], 3)).astype(np.uint8)
        mask = np.zeros(size[::-1], np.uint8)
        left, top = generator.integers(2, 16), generator.integers(2, 12)
        mask[top - 1 : top + 19, left - 1 : left + 21] = 255
        mask[top : top + 18, left : left + 20] = 1
        pixels[mask > 0] = (230, 40, 40)
        Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("masks")
    return write(root / "train"), write(root / "test", seed=1)


@pytest.fixture
def sources(folders):
    return tuple(open_images(f"masks:{folder}") for folder in folders)


def test_the_command_line_leaves_a_segmenter_and_masks_of_the_images_own_size(folders, tmp_path, capsys):
    words = ["evaluate", "segmentation", "--encoder", "timm:test_resnet@random", "--image-size", "32"]
    words += ["--train", f"masks:{folders[0]}", "--test", f"masks:{folders[1]}", "--out", str(tmp_path / "out")]
    words += [word for key, value in QUICK.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    assert main([*words, "--mask-classes", "ground=0", "thing=1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert 0 <= told["miou"] <= 100
    index = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert index["classes"] == ["ground", "thing"]
    counts = np.zeros((2, 2), int)
    for entry in index["images"]:
        with Image.open(tmp_path / "out" / entry["mask"]) as picture:
            assert picture.mode == "P"
            found = np.asarray(picture)
        truth = np.asarray(Image.open(folders[1] / "masks" / entry["id"]))
        for true, guess in zip(truth.ravel().tolist(), found.ravel().tolist(), strict=True):
            if true != 255:
                counts[true, guess] += 1
    right = np.diag(counts)
    assert told["pixel_accuracy"] == pytest.approx(100 * right.sum() / counts.sum())
    assert told["miou"] == pytest.approx(100 * np.mean(right / (counts.sum(0) + counts.sum(1) - right)))


def test_the_help_tells_the_forms_of_sources(capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "segmentation", "--help"])
    said = capsys.readouterr().out
    assert all(
        word in said
        for word in ("masks:", "voc:", "--mask-classes background=0", "--ignore-value", "--backbone-lr-scale")
    )


def test_what_was_left_gives_the_same_masks_again(encoder, sources, tmp_path):
    Segmentation(**QUICK).run(encoder, *sources, out=tmp_path, quiet=True)
    segmenter = load_segmenter(tmp_path)
    assert segmenter.classes == ("0", "1")
    for (row, *_), found in segmenter(sources[1]):
        assert (np.asarray(Image.open(tmp_path / "masks" / f"{row:06d}.png")) == found).all()
    with pytest.raises(SimcoreError, match="cannot be read"):
        load_segmenter(tmp_path / "masks")


def test_it_learns_what_is_bright(encoder, sources):
    settings = {**QUICK, "epochs": 15}
    untrained = Segmentation(**{**settings, "lr": 0.0}).run(encoder, *sources, quiet=True)
    trained = Segmentation(**settings).run(encoder, *sources, quiet=True)
    num_pixels = 6 * (44 * 36 - (22 * 20 - 20 * 18))  # but for the border that is ignored
    assert trained.details["num_pixels"] == num_pixels
    all_ground = 100 * (num_pixels - 6 * 20 * 18) / num_pixels / 2  # every pixel called ground: the thing has IoU 0
    assert untrained.metrics["miou"] < all_ground + 5
    assert trained.metrics["miou"] > all_ground + 30


def test_an_interrupted_training_goes_on_to_the_same_figures(encoder, sources, tmp_path, monkeypatch):
    task = Segmentation(**QUICK)
    whole = task.run(encoder, *sources, quiet=True)
    step, calls = Segmenter.training_step, []

    def cut(self, batch, moment):
        calls.append(moment.step)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return step(self, batch, moment)

    fit_settings = Segmentation.fit_settings
    often = lambda self: dataclasses.replace(fit_settings(self), save_minutes=0.0)  # noqa: E731
    monkeypatch.setattr(Segmentation, "fit_settings", often)
    monkeypatch.setattr(Segmenter, "training_step", cut)
    with pytest.raises(KeyboardInterrupt):
        task.run(encoder, *sources, out=tmp_path, quiet=True)
    resumed = task.run(encoder, *sources, out=tmp_path, quiet=True)
    assert calls[4] > 0
    assert resumed.metrics == whole.metrics
    assert resumed.parents == whole.parents


def test_training_under_reduced_precision_and_of_the_backbone_too(encoder, sources, tmp_path):
    task = Segmentation(**QUICK, precision="bf16-mixed", backbone_lr_scale=0.1)
    report = task.run(encoder, *sources, out=tmp_path, quiet=True)
    assert all(math.isfinite(value) for value in report.metrics.values())
    body = load_segmenter(tmp_path).model.body.body.model.state_dict()
    before = encoder.backbone.state_dict()
    assert not all(value.equal(before[name]) for name, value in body.items())


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "resnet10", "test_convnext"])
@pytest.mark.parametrize("stride", [16, 8])
def test_convolutional_backbones_are_dilated_to_the_true_stride(name, stride):
    encoder = load_encoder(f"timm:{name}@random", image_size=64, device="cpu")
    body = dilated(encoder, stride).eval()
    with torch.no_grad():
        fine, coarse = body(torch.zeros(1, 3, 96, 64))
    assert tuple(fine.shape[2:]) == (24, 16)
    assert tuple(coarse.shape[2:]) == (96 // stride, 64 // stride)
    before = encoder.backbone.state_dict()
    assert all(value.equal(before[key]) for key, value in body.body.model.state_dict().items())


def test_a_transformer_is_refused_by_name():
    encoder = load_encoder("timm:test_vit@random", device="cpu")
    with pytest.raises(UsageError, match="test_vit"):
        dilated(encoder, 16)


def test_weights_that_are_missing_are_listed(encoder):
    class Half(nn.Module):
        def __init__(self, whole):
            super().__init__()
            self.whole = whole

        def state_dict(self):
            return {k: v for k, v in self.whole.state_dict().items() if not k.startswith("layer4")}

    half = Encoder(Half(encoder.backbone), spec="half", backbone_name="test_resnet", dim=96, inputs=encoder.inputs)
    with pytest.raises(SimcoreError, match=r"half: \d+ of the \d+ tensors of test_resnet .*layer4\.0\.conv1\.weight"):
        rebuilt(half)


# --- figures --------------------------------------------------------------------------------------------------------


def ring():
    values = np.full((16, 16), 255, np.uint8)
    values[1:8, 1:15], values[8:15, 1:8], values[8:15, 8:15] = 0, 1, 2
    return values


def test_ignored_pixels_count_nowhere():
    truth = ring()
    counts = confusion(truth, np.where(truth == 255, 1, truth).astype(np.uint8), 3)
    assert counts.sum() == 196
    assert figures(counts, "abc")["miou"] == 100.0
    assert figures(counts, "abc")["pixel_accuracy"] == 100.0
    nothing = confusion(np.full((4, 4), 255, np.uint8), np.zeros((4, 4), np.uint8), 3)
    assert nothing.sum() == 0
    assert all(value == 0 for value in figures(nothing, "abc").values())


@pytest.mark.parametrize("seed", range(3))
def test_figures_against_a_literal_count(seed):
    generator = np.random.default_rng(seed)
    truth, found = generator.integers(0, 5, (2, 9, 11)).astype(np.uint8)
    truth[generator.uniform(size=truth.shape) < 0.2] = IGNORED
    truth[truth == 3] = 2  # class 3 is found but never there; class 4 is both
    found[found == 4] = 0
    pairs = [(t, f) for t, f in zip(truth.ravel().tolist(), found.ravel().tolist(), strict=True) if t != IGNORED]
    both = {c: sum(t == f == c for t, f in pairs) for c in range(6)}
    either = {c: sum(c in (t, f) for t, f in pairs) for c in range(6)}
    there = {c: sum(t == c for t, _ in pairs) for c in range(6)}
    counts = confusion(truth, found, 6)
    iou = {c: both[c] / either[c] for c in range(6) if either[c]}
    assert np.isnan(ious(counts)[5])
    assert ious(counts)[:5].tolist() == pytest.approx([iou[c] for c in range(5)])
    told = figures(counts, ["background", *"bcdef"])
    assert told["miou"] == pytest.approx(100 * sum(iou.values()) / len(iou))
    assert told["pixel_accuracy"] == pytest.approx(100 * sum(both.values()) / len(pairs))
    accuracy = [both[c] / there[c] for c in range(6) if there[c]]
    assert told["mean_class_accuracy"] == pytest.approx(100 * sum(accuracy) / len(accuracy))
    assert told["frequency_weighted_iou"] == pytest.approx(100 * sum(iou[c] * there[c] for c in iou) / len(pairs))
    assert told["foreground_iou"] == pytest.approx(100 * sum(iou[c] for c in iou if c) / (len(iou) - 1))


def test_the_loss_is_the_mean_over_counted_pixels_and_zero_without_any():
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    masks = torch.randint(0, 3, (2, 4, 5)).to(torch.uint8)
    masks[0, 0] = IGNORED
    literal = [
        -torch.log_softmax(logits[b, :, y, x], 0)[int(masks[b, y, x])].item()
        for b in range(2)
        for y in range(4)
        for x in range(5)
        if masks[b, y, x] != IGNORED
    ]
    assert pixel_loss(logits, masks).item() == pytest.approx(sum(literal) / len(literal), rel=1e-5)
    nothing = pixel_loss(logits, torch.full((2, 4, 5), IGNORED, dtype=torch.uint8))
    nothing.backward()
    assert nothing.item() == 0.0
    assert (logits.grad == 0).all()


def test_enlarging_chooses_as_resizing_all_classes_at_once_does():
    logits = torch.randn(7, 5, 6)
    whole = nn.functional.interpolate(logits[None], size=[31, 23], mode="bilinear", align_corners=False)[0].argmax(0)
    assert (enlarged_classes(logits, (31, 23)) == whole.numpy()).all()


# --- masks and transforms -------------------------------------------------------------------------------------------


def maker(sources, crop_size=32):
    sets = masked_sets(*sources, (), 255)
    return MaskScenes(
        source=sets.train,
        code=sets.train_code,
        numbers=sets.numbers(sets.train_code),
        short_side=crop_size,
        base_size=36,
    )


def test_a_mask_stays_on_its_image_whatever_is_drawn(sources):
    scenes = maker(sources)
    for row in range(6):
        for seed in range(6):
            with seeded(seed):
                scene = scenes.scene(row, augmented=True)
            assert scene.pixels.shape == (3, 32, 32)
            assert set(scene.mask.unique().tolist()) <= {0, 1, IGNORED}
            bright = scene.pixels[0].float()
            thing, ground = scene.mask == 1, scene.mask == 0
            assert not thing.any() or bright[thing].min() > 90  # resizing mixes at the outline alone
            assert not ground.any() or (bright[ground] < 90).float().mean() > 0.8


def test_beyond_the_image_all_is_black_and_ignored():
    image = tv_tensors.Image(torch.full((3, 20, 20), 200, dtype=torch.uint8))
    mask = tv_tensors.Mask(torch.ones(20, 20, dtype=torch.uint8))
    for seed in range(8):
        with seeded(seed):
            pixels, labels = train_transform(64, 40)(image, mask)
        assert pixels.shape == (3, 64, 64)
        assert (pixels[0][labels == IGNORED] == 0).all()
        assert (pixels[0][labels == 1] == 200).all()


def test_scales_are_drawn_from_half_to_twice():
    sides = []
    for seed in range(200):
        with seeded(seed):
            sides.append(RandomShortSide(128, 512).make_params([])["side"])
    assert 128 <= min(sides) < 140
    assert 500 < max(sides) <= 512
    assert resized(torch.zeros(3, 10, 25), 20).shape == (3, 20, 50)


def test_a_scene_depends_on_its_seed_alone(sources):
    scenes = maker(sources)
    first = scenes.piece([(2, 11)]).scenes[0]
    again = scenes.piece([(0, 3), (2, 11)]).scenes[1]
    assert first.pixels.equal(again.pixels)
    assert first.mask.equal(again.mask)


def test_a_mask_of_another_size_is_a_fault_of_its_row(tmp_path, folders):
    folder = write(tmp_path / "odd", 3)
    Image.new("L", (9, 9)).save(folder / "masks" / "1.png")
    source = open_images(f"masks:{folder}")
    piece = maker((source, source)).piece([(0, None), (1, None), (2, 5)])
    assert piece.rows == (0, 2)
    assert piece.faults == ((1, "its mask is 9 x 9, but the image 44 x 36"),)


def masks(folder, *arrays):
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for number, values in enumerate(arrays):
        Image.new("RGB", values.shape[1::-1]).save(folder / "images" / f"{number}.png")
        Image.fromarray(values).save(folder / "masks" / f"{number}.png")
    return open_images(f"masks:{folder}")


def test_a_foreground_of_255_is_not_silently_ignored(tmp_path, encoder):
    source = masks(tmp_path / "a", np.where(ring() == 0, 0, 255).astype(np.uint8))
    with pytest.raises(SimcoreError, match="no class but background is present"):
        masked_sets(source, source, (), 255)
    sets = masked_sets(source, source, ("background=0", "object=255"), 255)
    assert sets.classes == ("background", "object")


def test_classes_that_only_the_test_masks_hold_are_told_and_ignored(tmp_path):
    train = masks(tmp_path / "a", np.array([[0, 4], [4, 255]], np.uint8))
    test = masks(tmp_path / "b", np.array([[0, 4], [9, 255]], np.uint8))
    with pytest.warns(SimcoreWarning, match="unknown to the train set are left out: 9"):
        sets = masked_sets(train, test, (), 255)
    assert sets.classes == ("0", "4")
    assert sets.numbers(sets.test_code).tolist() == [0, 1, IGNORED, IGNORED]


def test_masks_of_colours_need_to_be_told(tmp_path):
    values = np.zeros((4, 4, 3), np.uint8)
    values[:2] = (128, 192, 255)
    source = masks(tmp_path / "a", values)
    with pytest.raises(SimcoreError, match="--mask-classes"):
        masked_sets(source, source, (), 255)
    named = masked_sets(source, source, ("sky=#80c0ff", "dark=#000000"), 255)
    assert named.classes == ("sky", "dark")
    assert named.train_code == MaskClasses.parse(["sky=#80c0ff", "dark=#000000"])


def test_images_without_masks_are_told_and_left_out_or_refused(tmp_path, folders):
    source = masks(tmp_path / "a", ring(), ring())
    (tmp_path / "a" / "masks" / "1.png").unlink()
    with pytest.warns(SimcoreWarning, match="1 of 2 train images have no mask"):
        sets = masked_sets(open_images(f"masks:{tmp_path / 'a'}"), source, (), 255)
    assert len(sets.train) == 1
    with pytest.raises(SimcoreError, match="no train image has a mask"):
        masked_sets(open_images(folders[0] / "images"), source, (), 255)


@pytest.mark.parametrize("wrong", [{"output_stride": 32}, {"crop_size": 4}, {"batch_size": 1}, {"epochs": 0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError, match="--"):
        Segmentation(**wrong)
