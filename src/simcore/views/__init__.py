"""From images to training views, as batched tensor operations on the device that trains.

A view maker is a strategy that is called with an :class:`ImageBatch` and a CPU ``torch.Generator`` and gives a list
of normalised views. Every draw is made on the CPU in a documented order, so one generator gives the same views of a
batch on every device; what is drawn, and what is then done, equals torchvision's transforms on float images.
"""

from __future__ import annotations

from simcore.views._canvas import ImageBatch, collate, joined
from simcore.views._photometric import Photometric
from simcore.views._rand_augment import RandAugment
from simcore.views.center_view import CenterView
from simcore.views.masked import Masked, PatchMasks, draw_patch_masks
from simcore.views.multi_crop import MultiCrop
from simcore.views.supervised import Supervised
from simcore.views.two_view import TwoView
from simcore.views.weak_strong import WeakStrong

__all__ = [
    "CenterView",
    "ImageBatch",
    "Masked",
    "MultiCrop",
    "PatchMasks",
    "Photometric",
    "RandAugment",
    "Supervised",
    "TwoView",
    "WeakStrong",
    "collate",
    "draw_patch_masks",
    "joined",
]
