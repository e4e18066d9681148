"""Weights files: what is written can be opened by others, what is opened runs no code."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import zipfile

import pytest
import timm
import torch
from safetensors import safe_open

from simcore.backbones import create_backbone, export_weights, load_weights, read_weights
from simcore.errors import SimcoreError


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture
def model():
    return create_backbone("resnet10", seed=1)


def test_an_export_opens_with_plain_timm(model, tmp_path):
    path = export_weights(model, tmp_path / "backbone.safetensors", {"backbone": "resnet10", "image_size": 64})
    plain = timm.create_model("resnet10", num_classes=0, checkpoint_path=str(path))
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in model.state_dict().items())
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["simcore"]) == {"backbone": "resnet10", "image_size": 64}
    assert read_weights(path).metadata == {"backbone": "resnet10", "image_size": 64}


def test_an_export_loads_into_torchvision(tmp_path):
    from safetensors.torch import load_file
    from torchvision.models import resnet18

    path = export_weights(create_backbone("resnet18", seed=1), tmp_path / "b.safetensors", {})
    theirs = resnet18()
    outcome = theirs.load_state_dict(load_file(path), strict=False)
    assert (sorted(outcome.missing_keys), outcome.unexpected_keys) == (["fc.bias", "fc.weight"], [])


def test_exports_are_the_same_bytes(model, tmp_path):
    first = export_weights(model, tmp_path / "a.safetensors", {"b": 1, "a": 2}).read_bytes()
    assert export_weights(model, tmp_path / "b.safetensors", {"a": 2, "b": 1}).read_bytes() == first


@pytest.mark.parametrize("legacy", [False, True])
def test_torch_checkpoints_open_whatever_they_are_called(model, tmp_path, legacy):
    path = tmp_path / "weights.data"
    content = {"model": model.state_dict(), "args": argparse.Namespace(lr=0.1), "epoch": 7}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    other = create_backbone("resnet10", seed=0)
    report = load_weights(other, path)
    assert report.source == str(path)
    assert torch.equal(other.conv1.weight, model.conv1.weight)


def test_pickled_objects_are_not_opened(model, tmp_path):
    trap = tmp_path / "sprung"
    path = tmp_path / "bomb.pth"
    torch.save({"state_dict": model.state_dict(), "config": Bomb(str(trap))}, path)
    with pytest.raises(SimcoreError, match=r"bomb.pth: not safe to open: it holds Python objects"):
        read_weights(path)
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Bomb(str(trap))))
    with pytest.raises(SimcoreError):
        read_weights(tmp_path / "bare.pth")
    assert not trap.exists()


def test_whole_modules_are_not_opened(model, tmp_path):
    torch.save(model, tmp_path / "module.pth")
    with pytest.raises(SimcoreError, match="not safe to open"):
        read_weights(tmp_path / "module.pth")


def spoiled(kind: str, good_safetensors: bytes, good_torch: bytes) -> bytes:
    return {
        "empty": b"",
        "html": b"<!DOCTYPE html><html><body>404</body></html>",
        "cut safetensors": good_safetensors[: len(good_safetensors) // 2],
        "cut torch": good_torch[: len(good_torch) // 2],
        "jpeg": b"\xff\xd8\xff\xe0" + bytes(100),
        "safetensors header": good_safetensors[:8] + b"{" + b"x" * 100,
        "huge header": (1 << 60).to_bytes(8, "little") + b"{}",
        "text": b"1 2 3\n",
    }[kind]


@pytest.mark.parametrize(
    "kind",
    ["empty", "html", "cut safetensors", "cut torch", "jpeg", "safetensors header", "huge header", "text"],
)
def test_damaged_and_foreign_files_are_one_clear_line(model, tmp_path, kind):
    torch.save(model.state_dict(), tmp_path / "good.pth")
    good = export_weights(model, tmp_path / "good.safetensors", {})
    path = tmp_path / "weights.bin"
    path.write_bytes(spoiled(kind, good.read_bytes(), (tmp_path / "good.pth").read_bytes()))
    with pytest.raises(SimcoreError, match=r"weights.bin: .*(damaged|foreign|not a weights file)") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)


def test_a_foreign_zip_and_a_list_of_tensors(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(SimcoreError, match="foreign weights file"):
        read_weights(tmp_path / "a.zip")
    torch.save([torch.zeros(3)], tmp_path / "list.pth")
    with pytest.raises(SimcoreError, match="holds list, not tensors by name"):
        read_weights(tmp_path / "list.pth")


def test_a_missing_file(tmp_path):
    with pytest.raises(SimcoreError, match=r"absent.pth: cannot be opened"):
        read_weights(tmp_path / "absent.pth")


def test_a_full_disk_leaves_no_file(model, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("simcore.backbones.files.save_file", full)
    with pytest.raises(SimcoreError, match="No space left on device"):
        export_weights(model, tmp_path / "b.safetensors", {})
    assert list(tmp_path.iterdir()) == []
