"""Run tasks that train backbones with batch statistics; alone or under torchrun: IMAGES OUT.

Every process writes what it found, so that the test sees whether they agree.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

from simcore.embedding import load_encoder
from simcore.images import open_images
from simcore.tasks.active import ActiveLearning
from simcore.tasks.finetune import FineTune
from simcore.tasks.opensemi import OpenSemi
from simcore.tasks.semisup import SemiSupervised
from simcore.tasks.weblysup import WeblySupervised
from simcore.training.gather import world

QUICK: dict[str, Any] = {"batch_size": 4, "lr": 0.05, "num_workers": 0, "device": "cpu"}
FEW: dict[str, Any] = {**QUICK, "label_ratio": 0.5, "epochs": 2, "steps_per_epoch": 3}
TASKS = {
    "finetune": FineTune(epochs=2, **QUICK),
    "coteaching": WeblySupervised(method="coteaching", epochs=2, **QUICK),
    "dividemix": WeblySupervised(method="dividemix", epochs=3, warm_up_epochs=1, label_noise=0.2, **QUICK),
    "fixmatch": SemiSupervised(method="fixmatch", **FEW),
    "openmatch": OpenSemi(method="openmatch", start_epoch=1, **FEW),
    "badge": ActiveLearning(acquisition="badge", rounds=2, budget="6", epochs=2, **QUICK),
}


def run(images: str, out: Path) -> None:
    warnings.simplefilter("ignore")
    encoder = load_encoder("timm:test_resnet@random", image_size=32, device="cpu")
    source = open_images(images)
    for name, task in TASKS.items():
        report = task.run(encoder, source, source, out=out / name, quiet=True)
        (out / f"{name}-{world()[0]}.json").write_text(json.dumps([report.metrics, report.details]))


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]))
