"""The ONNX file gives what the network gives."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from simcore.backbones import create_backbone, export_onnx
from simcore.errors import SimcoreError


@pytest.mark.parametrize("name", ["resnet10", pytest.param("dino_vit_t16", marks=pytest.mark.slow)])
def test_onnx_gives_the_same_features(name, tmp_path):
    pytest.importorskip("onnxscript")
    reference = pytest.importorskip("onnx.reference")
    model = create_backbone(name, seed=3, image_size=32).train()
    path = export_onnx(model, tmp_path / "backbone.onnx", image_size=32)
    assert model.training
    images = np.random.default_rng(0).random((3, 3, 32, 32), np.float32)
    (given,) = reference.ReferenceEvaluator(str(path)).run(None, {"images": images})
    with torch.no_grad():
        expected = model.eval()(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(given, expected, atol=1e-4, rtol=1e-4)
    assert [file.name for file in tmp_path.iterdir()] == ["backbone.onnx"]


def test_onnx_needs_its_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SimcoreError, match=r"pip install 'simcore\[onnx\]'"):
        export_onnx(create_backbone("resnet10", seed=0), tmp_path / "b.onnx", image_size=32)
