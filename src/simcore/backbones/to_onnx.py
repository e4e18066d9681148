"""A backbone as an ONNX file, for programs without torch."""

from __future__ import annotations

import importlib.util
import os
import warnings
from pathlib import Path

import torch
from torch import nn

from simcore.artifacts.files import written_aside
from simcore.errors import SimcoreError


def export_onnx(model: nn.Module, path: str | os.PathLike[str], *, image_size: int) -> Path:
    """Write ``model`` in evaluation mode as ONNX, weights included; needs the extra ``onnx``.

    Shape:
        - input ``images``: [batch, 3, image_size, image_size], normalised; any batch size.
        - output ``features``: [batch, num_features].
    """
    if importlib.util.find_spec("onnxscript") is None:
        raise SimcoreError("export to ONNX needs the extra: pip install 'simcore[onnx]'")
    was_training, device = model.training, next(model.parameters()).device
    example = torch.zeros(2, 3, image_size, image_size, device=device)
    try:
        with written_aside(path) as aside, warnings.catch_warnings(action="ignore"):
            torch.onnx.export(
                model.eval(),
                (example,),
                aside,
                input_names=["images"],
                output_names=["features"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        model.train(was_training)
    return Path(path)
