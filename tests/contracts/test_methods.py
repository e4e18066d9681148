"""What every registered pretraining method must hold; a new one is covered without a change here."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from simcore import registry
from simcore.backbones import create_backbone
from simcore.errors import UsageError
from simcore.images import open_images
from simcore.settings import as_dict, build, fields_of
from simcore.training import Moment, PretrainSettings, ViewBatch, pretrain
from simcore.training.interrupts import Stopped
from simcore.training.log import read_log

NAMES = registry.names("methods")
BACKBONES = ("test_resnet", "test_vit")  # timm's smallest; a method may refuse one kind


def small(cls):
    """A method with its widths and queues cut, so that a step takes milliseconds."""
    wide = {f.name: 64 for f in fields_of(cls) if f.kind is int and isinstance(f.default, int) and f.default > 256}
    return cls(**wide)


@pytest.fixture(params=NAMES)
def cls(request):
    return registry.find("methods", request.param)


@pytest.fixture(params=BACKBONES)
def backbone(request, cls):
    try:
        small(cls).build(create_backbone(request.param, seed=0, image_size=32))
    except UsageError as refusal:
        pytest.skip(str(refusal))
    return request.param


@pytest.fixture
def images(tmp_path):
    random = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(9):
        pixels = random.integers(0, 256, (36 + number, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return open_images(folder)


def settings(**changes):
    plain = {"epochs": 2, "batch_size": 8, "image_size": 32, "lr": 0.01, "num_workers": 0, "log_every": 1}
    return PretrainSettings(**(plain | {"tensorboard": False, "device": "cpu"} | changes))


def run(method, images, backbone, out: Path, **changes):
    resume = changes.pop("resume", False)
    return pretrain(method, images, backbone=backbone, settings=settings(**changes), out=out, resume=resume, quiet=True)


def test_is_a_frozen_keyword_only_dataclass_whose_settings_are_explained(cls):
    method = cls()
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.anything = 1
    assert all(field.metadata.get("help") for field in dataclasses.fields(method))
    assert build(cls, as_dict(method)) == method


def test_presets_can_be_made_and_unknown_ones_are_refused(cls):
    for name, values in cls.presets.items():
        assert (
            as_dict(cls.preset(name)).items() >= {k: v for k, v in values.items() if not isinstance(v, tuple)}.items()
        )
    with pytest.raises(UsageError, match="no preset"):
        cls.preset("no such")


def test_recipes_are_settings_whose_learning_rate_follows_the_batch_size(cls):
    for name in cls.recipes:
        assert name in cls.presets
        whole = PretrainSettings(**cls.recipe(name))
        half = PretrainSettings(**cls.recipe(name, whole.batch_size // 2))
        assert (half.batch_size, half.lr) == (whole.batch_size // 2, pytest.approx(whole.lr / 2))
    with pytest.raises(UsageError, match="no recipe"):
        cls.recipe("no such")


def test_nine_images_in_batches_of_eight_train_and_leave_a_backbone(cls, images, backbone, tmp_path):
    done = run(small(cls), images, backbone, tmp_path / "run")
    lines = read_log(done.path)
    assert all(np.isfinite(line["loss"]) for line in lines)
    epochs = [line for line in lines if line["event"] == "epoch"]
    assert [(line["num_images"], line["images_left_out"]) for line in epochs] == [(8, 1)] * 2
    assert all(np.isfinite(line["feature_std"]) and line["rankme"] >= 1 for line in epochs)
    opened = create_backbone(backbone, seed=1, image_size=32)
    from simcore.backbones import load_weights

    assert load_weights(opened, done.weights).complete


def test_a_run_cut_within_an_epoch_ends_as_an_uninterrupted_one(cls, images, backbone, tmp_path, monkeypatch):
    chosen = {"epochs": 3, "batch_size": 3}  # three steps an epoch
    whole = run(small(cls), images, backbone, tmp_path / "whole", **chosen)
    step, steps = torch.optim.SGD.step, []

    def step_and_stop(self, *args, **kwargs):
        steps.append(1)
        if len(steps) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", step_and_stop)
    with pytest.raises(Stopped):
        run(small(cls), images, backbone, tmp_path / "cut", **chosen)
    run(small(cls), images, backbone, tmp_path / "cut", resume=True, **chosen)
    assert len(steps) == 9
    states = [torch.load(tmp_path / name / "last.ckpt", weights_only=True)["model"] for name in ("whole", "cut")]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert whole.finished


def test_two_images_are_enough_for_a_step(cls, backbone):
    torch.manual_seed(0)
    method = small(cls)
    model = method.build(create_backbone(backbone, seed=0, image_size=32))
    views = [torch.randn(2, 3, 32, 32) for _ in method.views(32)(ones(), torch.Generator())]
    output = model.training_step(
        ViewBatch(views=views, is_target=torch.ones(2, dtype=torch.bool)), Moment(0, 0, 1, 1, 1)
    )
    output.loss.backward()
    assert torch.isfinite(output.loss)
    gradients = [parameter.grad for parameter in model.backbone.parameters() if parameter.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def ones():
    from simcore.views import collate

    return collate([np.full((40, 40, 3), 128, np.uint8)] * 2)


def test_what_is_exported_is_a_backbone_of_the_kind_that_was_given(cls, backbone):
    given = create_backbone(backbone, seed=0, image_size=32)
    shapes = {name: value.shape for name, value in given.state_dict().items()}
    exported = small(cls).build(given).exported
    assert {name: value.shape for name, value in exported.state_dict().items()} == shapes


def test_trains_in_half_precision(cls, images, backbone, tmp_path):
    done = run(small(cls), images, backbone, tmp_path / "run", precision="bf16-mixed", clip_grad=1.0)
    assert all(np.isfinite(line["loss"]) for line in read_log(done.path))
