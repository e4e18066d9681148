"""Run detection and segmentation on folders of tiny images; alone or under torchrun: BOXES MASKS OUT."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

from simcore.embedding import load_encoder
from simcore.images import open_images
from simcore.tasks.detection import Detection
from simcore.tasks.segmentation import Segmentation

QUICK = {"epochs": 1, "batch_size": 4, "num_workers": 0, "device": "cpu"}


def run(boxes: str, masks: str, out: Path) -> None:
    warnings.simplefilter("ignore")
    encoder = load_encoder("timm:test_resnet@random", image_size=32, device="cpu")
    detection = Detection(min_size=32, max_size=48, anchor_size=8, min_score=0.0, **QUICK)
    source = open_images(boxes)
    detection.run(encoder, source, source, out=out / "detection", quiet=True)
    pairs = open_images(masks)
    Segmentation(crop_size=32, lr=0.0, **QUICK).run(encoder, pairs, pairs, out=out / "segmentation", quiet=True)


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
