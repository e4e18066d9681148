"""The segmenter: DeepLabV3+ of segmentation-models-pytorch on a pretrained backbone with a dilated last stage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from simcore.embedding import Encoder
from simcore.errors import SimcoreError, UsageError
from simcore.images.mask_classes import IGNORED
from simcore.tasks._dense_model import DenseModel, drawn_weights
from simcore.tasks._pyramid import Pyramid, measured_stride, stages_of
from simcore.tasks._rebuild import rebuilt
from simcore.tasks._scenes import PlainScene, by_shape
from simcore.tasks._segmentation_scenes import TrainScene, WholeScene
from simcore.training import Moment, StepOutput

CHANNELS = 256
RATES = (6, 12, 18)
DROPOUT = 0.5
FINE = 4  # stride of the map that sharpens the outlines
NEEDS_EXTRA = "segmentation is built by segmentation-models-pytorch: pip install 'simcore[segmentation]'"


class DeepLab(nn.Module):
    """DeepLabV3+ (Chen et al. 2018): dilated convolutions at several rates, then a decoder with a map of stride 4.

    The ASPP has 256 channels at dilations 1, 6, 12 and 18, the fine map 48, the decoder 256, as published; its 3x3
    convolutions are separable, as in section 3.2 of the paper.
    """

    offset: Tensor
    scale: Tensor

    def __init__(self, encoder: Encoder, num_classes: int, output_stride: int, seed: int) -> None:
        super().__init__()
        self.output_stride = output_stride
        self.body = dilated(encoder, output_stride)
        with drawn_weights("segmenter", seed):
            self.decoder, self.head = _decoder(self.body.channels, output_stride, num_classes)
        self.register_buffer("offset", 255.0 * torch.tensor(encoder.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", 255.0 * torch.tensor(encoder.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Give logits [B, num_classes, H, W] of images [B, 3, H, W] with values from 0 to 255.

        Sides that are no multiple of the output stride are padded, and the logits cut back.
        """
        height, width = images.shape[-2:]
        values = (images.to(self.offset.dtype) - self.offset) / self.scale
        right, bottom = (-side % self.output_stride for side in (width, height))
        fine, coarse = self.body(nn.functional.pad(values, (0, right, 0, bottom)))
        logits: Tensor = self.head(self.decoder([fine, fine, fine, coarse]))
        return logits[..., :height, :width]


def _decoder(channels: Sequence[int], output_stride: int, num_classes: int) -> tuple[nn.Module, nn.Module]:
    try:
        from segmentation_models_pytorch.base import SegmentationHead
        from segmentation_models_pytorch.base.initialization import initialize_decoder, initialize_head
        from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder
    except ImportError as error:
        raise SimcoreError(NEEDS_EXTRA) from error
    fine, coarse = channels
    decoder = DeepLabV3PlusDecoder(
        encoder_channels=(fine, fine, fine, coarse),
        encoder_depth=5,
        out_channels=CHANNELS,
        atrous_rates=RATES,
        output_stride=output_stride,
        aspp_separable=True,
        aspp_dropout=DROPOUT,
    )
    head = SegmentationHead(CHANNELS, num_classes, kernel_size=1, upsampling=FINE)
    initialize_decoder(decoder)
    initialize_head(head)
    return decoder, head


def dilated(encoder: Encoder, output_stride: int) -> Pyramid:
    """Build the encoder's backbone at an output stride with all of its weights; maps of stride 4 and of the last.

    Raises ``UsageError`` for an architecture whose stride cannot be changed.
    """
    name = encoder.backbone_name
    refusal = f"segmentation takes convolutional backbones that timm can build at stride {output_stride}, not {name}"
    try:
        model = rebuilt(encoder, output_stride=output_stride)
    except UsageError as error:
        raise UsageError(refusal) from error
    stages = stages_of(model)
    fine = [place for place, info in enumerate(stages) if int(info["reduction"]) == FINE]
    if not fine or not hasattr(model, "forward_intermediates"):
        raise UsageError(refusal)
    places = (fine[-1], len(stages) - 1)
    channels = [int(stages[place]["num_chs"]) for place in places]
    body = Pyramid(model, places, channels, (FINE, output_stride))
    if measured_stride(body) != output_stride:
        raise UsageError(refusal)
    return body


class Segmenter(DenseModel):
    """DeepLabV3+ as the loop trains it."""

    network: DeepLab

    def __init__(
        self, encoder: Encoder, *, num_classes: int, output_stride: int, backbone_lr_scale: float, seed: int
    ) -> None:
        super().__init__(backbone_lr_scale)
        self.network = DeepLab(encoder, num_classes, output_stride, seed)
        self.freeze_if_wanted()

    @property
    def body(self) -> Pyramid:  # type: ignore[override]
        """The backbone."""
        return self.network.body

    def training_step(self, batch: Sequence[TrainScene], moment: Moment) -> StepOutput:
        """Give the mean cross-entropy of the pixels of some crops that are not ignored; 0 where all are."""
        logits = self.network(torch.stack([scene.pixels for scene in batch]))
        return StepOutput(loss=pixel_loss(logits, torch.stack([scene.mask for scene in batch])))

    @torch.no_grad()
    def segment(self, scenes: Sequence[PlainScene | WholeScene]) -> list[npt.NDArray[np.uint8]]:
        """Give the class number of each pixel of each whole image, uint8 [H, W]; in evaluation mode."""
        answers: dict[int, npt.NDArray[np.uint8]] = {}
        for same in by_shape(scenes):
            images = torch.stack([scene.pixels for scene in same]).to(self.network.offset.device)
            for scene, logits in zip(same, self.network(images), strict=True):
                answers[scene.row] = enlarged_classes(logits, scene.size[::-1])
        return [answers[scene.row] for scene in scenes]


def pixel_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Give the mean cross-entropy over pixels whose mask is not 255; 0 if there are none.

    Shape:
        - logits: [B, num_classes, H, W]; masks: uint8 [B, H, W].
    """
    masks = masks.long()
    summed = nn.functional.cross_entropy(logits.float(), masks, ignore_index=IGNORED, reduction="sum")
    return summed / (masks != IGNORED).sum().clamp(min=1)


def enlarged_classes(logits: Tensor, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Resize logits [num_classes, h, w] bilinearly to [H, W] and give the best class of each pixel.

    One class is held at full size at a time: a large image with many classes needs no more memory than with two.
    """
    best = torch.full(size, -torch.inf, device=logits.device)
    chosen = torch.zeros(size, dtype=torch.uint8, device=logits.device)
    for number, one in enumerate(logits.float()):
        value = nn.functional.interpolate(one[None, None], size=list(size), mode="bilinear", align_corners=False)[0, 0]
        better = value > best
        best, chosen = torch.where(better, value, best), chosen.masked_fill(better, number)
    return np.asarray(chosen.cpu().numpy(), np.uint8)
