"""Backbones: networks through timm, with the few that timm lacks registered into it on import."""

from simcore.backbones import dino_vit, mae_vit, resnet10
from simcore.backbones.create import create_backbone, input_config
from simcore.backbones.files import export_weights, read_weights
from simcore.backbones.to_onnx import export_onnx
from simcore.backbones.weights import LoadReport, load_weights

__all__ = [
    "LoadReport",
    "create_backbone",
    "dino_vit",
    "export_onnx",
    "export_weights",
    "input_config",
    "load_weights",
    "mae_vit",
    "read_weights",
    "resnet10",
]
