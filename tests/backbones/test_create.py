"""Backbones by name: sizes, seeds, and what is registered into timm."""

from __future__ import annotations

import math

import numpy as np
import pytest
import timm
import torch

import simcore.backbones
from simcore.backbones import create_backbone, input_config
from simcore.backbones.create import takes_image_size
from simcore.backbones.mae_vit import sine_cosine_positions
from simcore.errors import SimcoreError, UsageError


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("resnet10", 512),
        ("resnet18", 512),
        ("resnet50", 2048),
        ("resnext50_32x4d", 2048),
        ("efficientnet_b0", 1280),
        ("efficientnet_b2", 1408),
        ("mobilenetv3_small_050", 1024),  # ends in a hidden layer after pooling
        ("dino_vit_t16", 192),
        ("dino_vit_s16", 384),
    ],
)
def test_width_of_features(name, width):
    model = create_backbone(name, seed=0).eval()
    side = 224 if "vit" in name else 64
    with torch.no_grad():
        features = model(torch.zeros(2, 3, side, side))
    assert features.shape == (2, width)
    assert model.num_features == width


@pytest.mark.parametrize(
    ("name", "width", "patch", "depth", "heads"),
    [
        ("dino_vit_b16", 768, 16, 12, 12),
        ("mae_vit_base", 768, 16, 12, 12),
        ("mae_vit_large", 1024, 16, 24, 16),
        ("mae_vit_huge", 1280, 14, 32, 16),
    ],
)
def test_shape_of_the_large_transformers(name, width, patch, depth, heads):
    with torch.device("meta"):
        model = create_backbone(name, seed=0)
    assert model.num_features == width
    assert len(model.blocks) == depth
    assert model.blocks[0].attn.num_heads == heads
    assert model.patch_embed.patch_size == (patch, patch)
    assert model.blocks[0].attn.qkv.bias is not None
    assert model.pos_embed.requires_grad == name.startswith("dino")


def test_resnet10_has_one_basic_block_a_stage():
    model = create_backbone("resnet10", seed=0)
    assert [len(getattr(model, f"layer{stage}")) for stage in (1, 2, 3, 4)] == [1, 1, 1, 1]
    assert {name.partition(".")[0] for name in model.state_dict()} == {
        "conv1", "bn1", "layer1", "layer2", "layer3", "layer4",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["resnet10", "dino_vit_t16", "mae_vit_base"])
def test_plain_timm_knows_the_names(name):
    assert simcore.backbones
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=7)
    assert model.num_classes == 7


@pytest.mark.parametrize("name", ["resnet10", "dino_vit_t16"])
def test_weights_depend_on_the_seed_alone(name):
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    first = create_backbone(name, seed=3).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(99)
    again = create_backbone(name, seed=3).state_dict()
    other = create_backbone(name, seed=4).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_dino_interpolates_its_positions():
    model = create_backbone("dino_vit_t16", seed=0).eval()
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 96, 96)).shape == (1, 192)
    assert takes_image_size(model, 96)
    assert not takes_image_size(model, 100)


def test_image_size_fixes_the_positions_where_a_network_has_them():
    model = create_backbone("mae_vit_base", seed=0, image_size=32)
    assert model.pos_embed.shape == (1, 5, 768)
    assert input_config(model).image_size == 32
    assert takes_image_size(model, 32)
    assert not takes_image_size(model, 64)
    assert input_config(create_backbone("resnet10", seed=0, image_size=32)).image_size == 224


def test_mae_feature_is_the_mean_patch_token_normed_once():
    model = create_backbone("mae_vit_base", seed=0, image_size=32, depth=2).eval()
    with torch.no_grad():
        model.norm.weight.uniform_(0.5, 2.0)
        model.norm.bias.uniform_(-1.0, 1.0)
        images = torch.rand(2, 3, 32, 32)
        tokens = model.norm(model.blocks(model._pos_embed(model.patch_embed(images))))
        torch.testing.assert_close(model(images), tokens[:, 1:].mean(1))


def test_sine_cosine_positions_by_a_literal_loop():
    dim, height, width = 16, 3, 5
    given = sine_cosine_positions(dim, height, width)[0].numpy()
    expected = np.zeros((1 + height * width, dim))
    for line in range(height):
        for column in range(width):
            for i in range(dim // 4):
                frequency = 1.0 / 10_000 ** (i / (dim / 4))
                row = expected[1 + line * width + column]
                row[i] = math.sin(column * frequency)
                row[dim // 4 + i] = math.cos(column * frequency)
                row[dim // 2 + i] = math.sin(line * frequency)
                row[3 * dim // 4 + i] = math.cos(line * frequency)
    np.testing.assert_allclose(given, expected, atol=1e-6)


def test_drop_path_and_other_settings_reach_timm():
    model = create_backbone("dino_vit_t16", seed=0, drop_path_rate=0.1)
    assert model.blocks[-1].drop_path1.drop_prob == pytest.approx(0.1)


def test_unknown_names_are_answered_with_near_ones():
    with pytest.raises(UsageError, match=r"no backbone is called 'resnet19'; did you mean .*resnet18"):
        create_backbone("resnet19", seed=0)
    with pytest.raises(UsageError, match="cannot be built"):
        create_backbone("resnet18", seed=0, no_such_setting=1)


def test_a_failed_download_is_one_line(monkeypatch):
    def unreachable(*args, **kwargs):
        try:
            raise ConnectionError("no route\nto host")
        except ConnectionError as error:
            raise LookupError("neither on the hub nor in the cache") from error

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(
        SimcoreError, match=r"timm:resnet18: its pretrained weights cannot be had .ConnectionError: no route.;"
    ) as caught:
        create_backbone("resnet18", seed=0, pretrained=True)
    assert "\n" not in str(caught.value)


def test_a_network_without_published_weights_says_so():
    with pytest.raises(SimcoreError, match="timm:resnet10: its pretrained weights cannot be had"):
        create_backbone("resnet10", seed=0, pretrained=True)
