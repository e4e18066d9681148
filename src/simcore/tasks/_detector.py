"""The detector: torchvision's RetinaNet with a feature pyramid on a pretrained backbone."""

from __future__ import annotations

import dataclasses
import functools
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork, batched_nms, nms
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from simcore.embedding import Encoder
from simcore.images.boxes import Boxes, clipped
from simcore.tasks._dense_model import DenseModel, drawn_weights
from simcore.tasks._detection_scenes import TrainScene, WholeScene
from simcore.tasks._pyramid import Pyramid, pyramid_of
from simcore.tasks._scenes import PlainScene, by_shape
from simcore.training import Moment, StepOutput

NORM_GROUPS = 32
ASPECTS = (0.5, 1.0, 2.0)
MAX_CANDIDATES = 1000  # a level
MAX_FOUND = 100  # an image


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """What was found in one image, best first.

    Attributes:
        row: of the image in its source.
        size: width and height of the whole image in pixels.
        boxes: in pixels of the whole image.
        scores: float32 [n], 0 to 1.
    """

    row: int
    size: tuple[int, int]
    boxes: Boxes
    scores: npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Suppression:
    """Which of several overlapping boxes stays: the best, over ``iou`` of another's area in common.

    With ``across_classes`` whatever their classes, as published; else among boxes of one class.
    """

    iou: float = 0.2
    across_classes: bool = True
    min_score: float = 0.05

    def __call__(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """Keep at most ``MAX_FOUND``; what lay outside the image, and so has no area in it, goes first.

        Shape:
            - boxes: float32 [n, 4] as left, top, right, bottom; scores: float32 [n]; labels: int64 [n].
        """
        inside = (found["boxes"][:, 2:] > found["boxes"][:, :2]).all(1)
        boxes, scores, labels = (found[name][inside] for name in ("boxes", "scores", "labels"))
        kept = nms(boxes, scores, self.iou) if self.across_classes else batched_nms(boxes, scores, labels, self.iou)
        kept = kept[:MAX_FOUND]
        return {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]}


class Coarser(LastLevelP6P7):  # type: ignore[misc]
    """Two coarser maps, always in float32.

    They cost next to nothing, and on a CPU the bfloat16 gradient of a convolution over a single cell comes out as NaN
    (torch 2.14).
    """

    def forward(self, p: list[Tensor], c: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """Append them to the maps ``p`` of the pyramid."""
        with torch.autocast(p[-1].device.type, enabled=False):
            made: tuple[list[Tensor], list[str]] = super().forward([one.float() for one in p], c, names)
        return made


class FeaturePyramid(nn.Module):
    """Maps of the backbone, joined from coarse to fine (Lin et al. 2017), with two coarser ones made of the last."""

    def __init__(self, body: Pyramid, channels: int) -> None:
        super().__init__()
        self.body, self.out_channels = body, channels
        self.fpn = FeaturePyramidNetwork(list(body.channels), channels, extra_blocks=Coarser(channels, channels))

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Give the maps by name, finest first.

        Shape:
            - images: float32 [B, 3, H, W], normalised.
            - output: [B, channels, H / stride, W / stride] for each stride of the body and two doublings of the last.
        """
        maps = OrderedDict((str(level), each) for level, each in enumerate(self.body(images)))
        joined: OrderedDict[str, Tensor] = self.fpn(maps)
        return joined


class Normalised(GeneralizedRCNNTransform):  # type: ignore[misc]
    """torchvision's way from images to one padded batch, for images that were resized before."""

    def resize(self, image: Tensor, target: Any = None) -> tuple[Tensor, Any]:
        """Leave the image as it is."""
        return image, target


class Detector(DenseModel):
    """RetinaNet (Lin et al. 2017, focal loss) as the loop trains it.

    Args:
        encoder: whose backbone (a copy) is the body, with its normalisation of pixels.
        num_classes: classes of objects; the focal loss needs none for the background.
        anchor_size: side of the smallest anchor in pixels; it doubles from level to level.
        channels: of the feature pyramid and of the layers of both heads.
        group_norm: normalise the layers of both heads by groups (Wu and He 2018).
    """

    network: RetinaNet

    def __init__(
        self,
        encoder: Encoder,
        *,
        num_classes: int,
        anchor_size: int,
        channels: int = 256,
        group_norm: bool = False,
        backbone_lr_scale: float,
        seed: int,
    ) -> None:
        super().__init__(backbone_lr_scale)
        pyramid = pyramid_of(encoder)
        grid = anchors(anchor_size, len(pyramid.channels) + 2)
        norm = functools.partial(nn.GroupNorm, NORM_GROUPS) if group_norm else None
        with drawn_weights("detector", seed):
            features = FeaturePyramid(pyramid, channels)
            self.network = RetinaNet(
                features,
                num_classes,
                anchor_generator=grid,
                head=RetinaNetHead(channels, grid.num_anchors_per_location()[0], num_classes, norm_layer=norm),
                nms_thresh=1.0,  # what overlaps is told apart by Suppression, from all candidates
                topk_candidates=MAX_CANDIDATES,
                detections_per_img=MAX_CANDIDATES * (len(pyramid.channels) + 2),
            )
        self.network.transform = Normalised(1, 1, list(encoder.mean), list(encoder.std))
        self.freeze_if_wanted()

    @property
    def body(self) -> Pyramid:  # type: ignore[override]
        """The backbone."""
        inner: Pyramid = self.network.backbone.body
        return inner

    def training_step(self, batch: Sequence[TrainScene], moment: Moment) -> StepOutput:
        """Give the sum of the focal and the L1 loss; scenes may differ in size and are padded to the largest."""
        images = [scene.pixels.float() / 255.0 for scene in batch]
        targets = [{"boxes": scene.boxes, "labels": scene.labels} for scene in batch]
        losses = self.network(images, targets)
        return StepOutput(
            loss=losses["classification"] + losses["bbox_regression"],
            logs={"focal_loss": losses["classification"].detach(), "box_loss": losses["bbox_regression"].detach()},
        )

    @torch.no_grad()
    def detect(self, scenes: Sequence[PlainScene | WholeScene], suppression: Suppression) -> list[Found]:
        """Find the objects in some images; the network must be in evaluation mode."""
        device = next(self.network.parameters()).device
        self.network.score_thresh = suppression.min_score
        found: dict[int, Found] = {}
        for same in by_shape(scenes):
            answers = self.network([scene.pixels.to(device).float() / 255.0 for scene in same])
            for scene, answer in zip(same, answers, strict=True):
                found[scene.row] = _found(scene, suppression(answer))
        return [found[scene.row] for scene in scenes]


def anchors(smallest: int, num_levels: int) -> AnchorGenerator:
    """Make anchors of three sizes an octave and three shapes on each level (Lin et al. 2017, section 4)."""
    sides = [smallest * 2**level for level in range(num_levels)]
    sizes = tuple(tuple(int(side * 2 ** (third / 3)) for third in range(3)) for side in sides)
    return AnchorGenerator(sizes, (ASPECTS,) * num_levels)


def _found(scene: PlainScene | WholeScene, answer: dict[str, Tensor]) -> Found:
    height, width = scene.pixels.shape[-2:]
    scale = np.array([scene.size[0] / width, scene.size[1] / height] * 2)
    edges = clipped(answer["boxes"].double().cpu().numpy() * scale, *scene.size)
    labels = answer["labels"].cpu().numpy()
    boxes = Boxes(edges, labels, np.zeros(len(labels), bool))
    return Found(scene.row, scene.size, boxes, answer["scores"].float().cpu().numpy())
