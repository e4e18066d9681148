"""Encoder: a frozen backbone together with what has to happen to an image before it."""

from __future__ import annotations

import functools
from typing import Self

import torch
from torch import Tensor, nn

from simcore.artifacts.files import fingerprint
from simcore.backbones.create import InputConfig
from simcore.backbones.weights import LoadReport
from simcore.embedding.preprocess import Transform, proportional_resize


class Encoder(nn.Module):
    """Images to features: the output of the backbone before any projection or classification head.

    It stays in evaluation mode and computes no gradient; to train the network take ``encoder.backbone``.

    Attributes:
        spec: how the user named it.
        backbone_name, backbone: architecture and network.
        dim: width of a feature.
        image_size, resize_size: side of the crop, and of the short side before it, in pixels.
        mean, std: normalisation of values in 0…1, three channels each.
        load_report: what became of the weights file, where there was one.
    """

    _offset: Tensor
    _scale: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        *,
        spec: str,
        backbone_name: str,
        dim: int,
        inputs: InputConfig,
        load_report: LoadReport | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.spec, self.backbone_name, self.dim = spec, backbone_name, dim
        self.inputs, self.load_report = inputs, load_report
        self.image_size = inputs.image_size
        self.resize_size = proportional_resize(inputs.image_size)
        self.mean, self.std = inputs.mean, inputs.std
        device = next((weight.device for weight in backbone.parameters()), None)
        self.register_buffer("_offset", torch.tensor(inputs.mean, device=device).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_scale", torch.tensor(inputs.std, device=device).view(1, 3, 1, 1), persistent=False)
        super().train(False)

    @property
    def transform(self) -> Transform:
        """The geometric half of the preprocessing, for the decode workers."""
        return Transform(
            image_size=self.image_size, resize_size=self.resize_size, interpolation=self.inputs.interpolation
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._offset.device

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the weights and of everything that is done to an image before them."""
        weights = {name: fingerprint(_bytes(value)) for name, value in sorted(self.backbone.state_dict().items())}
        return fingerprint(self.backbone_name, self.dim, self.describe_inputs(), weights)

    def describe_inputs(self) -> dict[str, object]:
        """Give the preprocessing as plain values."""
        return {
            "image_size": self.image_size,
            "resize_size": self.resize_size,
            "interpolation": self.inputs.interpolation,
            "mean": list(self.mean),
            "std": list(self.std),
        }

    def train(self, mode: bool = True) -> Self:
        """Do nothing: batch statistics must not drift while features are taken."""
        return self

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Embed a batch.

        Shape:
            - images: [B, 3, S, S], uint8 in 0…255 or float in 0…1, RGB, not normalised.
            - output: float32 [B, dim].
        """
        values = images if images.is_floating_point() else images.to(self._offset.dtype) / 255.0
        features: Tensor = self.backbone((values - self._offset) / self._scale)
        return features.flatten(1).float()


def _bytes(value: Tensor) -> bytes:
    return value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
