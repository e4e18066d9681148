"""What may stand for an encoder, and what is said where it cannot."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
import yaml

from simcore.artifacts import Checkpoint
from simcore.backbones import create_backbone, export_weights
from simcore.embedding import load_encoder
from simcore.errors import SimcoreError, SimcoreWarning, UsageError


@pytest.fixture
def run(tmp_path):
    """A finished RUN of a ResNet-10 trained at 64 px."""
    folder = tmp_path / "run"
    folder.mkdir()
    config = {"backbone": "resnet10", "image_size": 64, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}
    Checkpoint(path=folder, config=config).save()
    export_weights(create_backbone("resnet10", seed=7), folder / "backbone.safetensors", config)
    return folder


def test_a_run_brings_its_size_and_normalisation(run):
    encoder = load_encoder(run, device="cpu")
    assert (encoder.image_size, encoder.resize_size) == (64, 73)
    assert (encoder.mean, encoder.std) == ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    assert (encoder.backbone_name, encoder.dim, encoder.spec) == ("resnet10", 512, str(run))
    assert encoder.transform.interpolation == "bilinear"
    assert torch.equal(encoder.backbone.conv1.weight, create_backbone("resnet10", seed=7).conv1.weight)
    same = load_encoder(Checkpoint.load(run), device="cpu")
    assert same.fingerprint == encoder.fingerprint == load_encoder(run / "backbone.safetensors").fingerprint


def test_the_image_size_may_be_changed(run):
    encoder = load_encoder(run, device="cpu", image_size=32)
    assert (encoder.image_size, encoder.resize_size) == (32, 37)
    assert encoder.fingerprint != load_encoder(run, device="cpu").fingerprint
    with pytest.raises(UsageError, match="must be at least 1"):
        load_encoder(run, image_size=0)


def test_an_unfinished_run(run):
    (run / "backbone.safetensors").unlink()
    with pytest.raises(SimcoreError, match=r"has no backbone.safetensors yet"):
        load_encoder(run)


def test_the_last_checkpoint_of_a_run_takes_its_config(run):
    tensors = {f"trainable.backbone.{k}": v for k, v in create_backbone("resnet10", seed=9).state_dict().items()}
    torch.save({"model": {k.removeprefix("trainable."): v for k, v in tensors.items()}}, run / "last.ckpt")
    encoder = load_encoder(run / "last.ckpt", device="cpu")
    assert encoder.image_size == 64
    assert torch.equal(encoder.backbone.conv1.weight, create_backbone("resnet10", seed=9).conv1.weight)


def test_a_bare_file_is_recognised_or_named(tmp_path):
    torch.save(create_backbone("resnet18", seed=2).state_dict(), tmp_path / "a.pth")
    assert load_encoder(tmp_path / "a.pth", device="cpu").backbone_name == "resnet18"
    torch.save(create_backbone("resnet26", seed=2).state_dict(), tmp_path / "b.pth")
    with pytest.raises(SimcoreError, match=r"b\.pth@BACKBONE"):
        load_encoder(tmp_path / "b.pth")
    by_suffix = load_encoder(f"{tmp_path / 'b.pth'}@resnet26", device="cpu")
    by_name = load_encoder(tmp_path / "b.pth", backbone="resnet26", device="cpu")
    assert by_suffix.backbone_name == by_name.backbone_name == "resnet26"
    assert by_suffix.fingerprint == by_name.fingerprint
    with pytest.raises(SimcoreError, match=r"of \d+ tensors fit"):
        load_encoder(tmp_path / "b.pth", backbone="resnet18")


def test_left_over_heads_are_told(tmp_path):
    torch.save(
        {**create_backbone("resnet10", seed=2).state_dict(), "fc.weight": torch.zeros(2, 512)}, tmp_path / "a.pth"
    )
    with pytest.warns(SimcoreWarning, match=r"1 left over \(fc.weight\)"):
        encoder = load_encoder(tmp_path / "a.pth", device="cpu")
    assert encoder.load_report.left_over == ("fc.weight",)


def test_partial_weights_are_taken_only_on_wish(tmp_path):
    half = dict(list(create_backbone("resnet10", seed=2).state_dict().items())[::2])
    torch.save(half, tmp_path / "half.pth")
    with pytest.raises(SimcoreError, match="are missing"):
        load_encoder(tmp_path / "half.pth", backbone="resnet10")
    with pytest.warns(SimcoreWarning, match="missing"):
        load_encoder(tmp_path / "half.pth", backbone="resnet10", partial=True)


def test_fresh_weights_come_from_the_seed():
    first, again, other = (load_encoder("timm:resnet10@random", device="cpu", seed=seed) for seed in (1, 1, 2))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert (first.image_size, first.resize_size) == (224, 256)


@pytest.mark.parametrize(
    ("name", "dim"), [("resnet18", 512), ("mobilenet_v3_small", 1024), ("mnasnet0_5", 1280), ("swin_t", 768)]
)
def test_torchvision_networks_end_before_their_classifier(name, dim):
    encoder = load_encoder(f"torchvision:{name}@random", device="cpu")
    assert encoder.dim == dim
    assert encoder(torch.zeros(1, 3, 224, 224, dtype=torch.uint8)).shape == (1, dim)
    assert encoder.fingerprint == load_encoder(f"torchvision:{name}@random", device="cpu").fingerprint


def test_torchvision_resnet_is_timms(tmp_path):
    theirs = load_encoder("torchvision:resnet18@random", device="cpu", seed=3)
    torch.save(theirs.backbone.state_dict(), tmp_path / "tv.pth")
    ours = load_encoder(tmp_path / "tv.pth", device="cpu")
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    torch.testing.assert_close(theirs(images), ours(images))


@pytest.mark.parametrize(
    ("spec", "kind", "text"),
    [
        ("runs/absent", SimcoreError, "runs/absent: no such file or folder"),
        ("timm:resnet19@random", UsageError, "did you mean"),
        ("torchvision:resnet19", UsageError, "torchvision has no classifier 'resnet19'; did you mean 'resnet"),
        ("torchvision:squeezenet1_0@random", UsageError, "does not end in a linear classifier"),
        ("timm:mae_vit_base", SimcoreError, "pretrained weights cannot be had"),
    ],
)
def test_wrong_specs_are_one_clear_line(spec, kind, text):
    with pytest.raises(kind, match=text) as caught:
        load_encoder(spec, device="cpu")
    assert "\n" not in str(caught.value)


def test_open_clip_needs_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(SimcoreError, match=r"pip install 'simcore\[openclip\]'"):
        load_encoder("open_clip:ViT-B-32/openai")


def test_open_clip_towers():
    pytest.importorskip("open_clip")
    encoder = load_encoder("open_clip:ViT-S-32@random", device="cpu")
    assert (encoder.dim, encoder.image_size, encoder.transform.interpolation) == (384, 224, "bicubic")
    assert encoder.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))
    assert encoder(torch.zeros(1, 3, 224, 224, dtype=torch.uint8)).shape == (1, 384)
    with pytest.raises(UsageError, match="open_clip has no model 'ViT-B-33'; did you mean 'ViT-B-32'"):
        load_encoder("open_clip:ViT-B-33")
    with pytest.raises(UsageError, match="open_clip has no weights for 'ViT-S-32'"):
        load_encoder("open_clip:ViT-S-32")


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(SimcoreError, match="not a RUN"):
        load_encoder(tmp_path)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"a": 1}))
    with pytest.raises(SimcoreError, match="not a config that"):
        load_encoder(tmp_path)


def test_devices():
    with pytest.raises(UsageError, match="--device is 'gpu'"):
        load_encoder("timm:resnet10@random", device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(SimcoreError, match="this machine has 0 CUDA devices"):
            load_encoder("timm:resnet10@random", device="cuda")


def test_a_network_with_fixed_positions_refuses_another_size(tmp_path):
    said = {"backbone": "vit_tiny_patch16_224", "image_size": 32}
    network = create_backbone("vit_tiny_patch16_224", seed=0, image_size=32)
    path = export_weights(network, tmp_path / "v.safetensors", said)
    assert load_encoder(path, device="cpu").image_size == 32
    with pytest.raises(UsageError, match="has positions for 32 px and cannot take 48 px"):
        load_encoder(path, device="cpu", image_size=48)
    assert load_encoder("timm:vit_tiny_patch16_224@random", device="cpu", image_size=48).image_size == 48


def test_the_encoder_normalises_and_stays_in_evaluation_mode():
    encoder = load_encoder("timm:resnet10@random", device="cpu", image_size=32)
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    mean, std = (np.array(value, np.float32).reshape(1, 3, 1, 1) for value in (encoder.mean, encoder.std))
    backbone = create_backbone("resnet10", seed=0).eval()
    with torch.no_grad():
        expected = backbone(torch.from_numpy((images.numpy().astype(np.float32) / 255 - mean) / std))
    encoder.train()
    assert not encoder.training
    assert not encoder.backbone.training
    given = encoder(images)
    assert given.dtype == torch.float32
    assert not given.requires_grad
    torch.testing.assert_close(given, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(encoder(images.float() / 255), given)
