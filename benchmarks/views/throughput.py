"""What two views of an image cost: simcore's batched operations against torchvision's transforms, image by image.

Every arm starts from the same decoded images (uint8 arrays) and ends with two stacked float32 batches, normalised; the
recipe is the published one (random resized crop, flip, colour jitter, grayscale). torchvision runs in its three usual
forms. The arms take turns in one process on one thread, and what counts is the processor time of that process: quote
the ratios, which are taken within a turn. The last arm is what the views are for: forward and backward of a backbone
on as many views.

    python benchmarks/views/throughput.py
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2

sys.path.insert(0, str(Path(__file__).parents[1]))
import machine
from simcore.backbones import create_backbone
from simcore.views import TwoView, collate
from simcore.views._render import IMAGENET_MEAN, IMAGENET_STD

RESULT = Path(__file__).parents[1] / "results" / "views_throughput.json"
CASES = (  # view size, image height and width, images a batch, backbone
    (32, 32, 32, 256, "resnet10"),
    (64, 64, 64, 256, "resnet10"),
    (224, 375, 500, 16, "resnet50"),
)
Images = list[np.ndarray]
Arm = Callable[[], Any]


def pictures(num: int, height: int, width: int) -> Images:
    """Smooth random colours: every operation has something to do."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (num, 8, 8, 3), dtype=np.uint8)
    return [np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)) for image in coarse]


def published(size: int) -> list[Any]:
    jitter = v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8)
    crop = v2.RandomResizedCrop(size, scale=(0.2, 1.0), antialias=True)
    return [crop, v2.RandomHorizontalFlip(), jitter, v2.RandomGrayscale(0.2)]


def torchvision_arms(images: Images, size: int) -> dict[str, Arm]:
    to_float, normalize = v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)
    forms = {
        "torchvision float": v2.Compose([v2.ToImage(), to_float, *published(size), normalize]),
        "torchvision uint8": v2.Compose([v2.ToImage(), *published(size), to_float, normalize]),
        "torchvision PIL": v2.Compose([v2.ToPILImage(), *published(size), v2.ToImage(), to_float, normalize]),
    }

    def arm(transform: Any) -> Arm:
        return lambda: [torch.stack([transform(image) for image in images]) for _ in range(2)]

    return {name: arm(transform) for name, transform in forms.items()}


def simcore_arm(images: Images, size: int) -> Arm:
    maker, generator = TwoView(image_size=size), torch.Generator().manual_seed(0)
    return lambda: maker(collate(images), generator)


def training_arm(num: int, size: int, backbone: str) -> Arm:
    network = create_backbone(backbone, seed=0).train().to(memory_format=torch.channels_last)
    views = torch.randn(num, 3, size, size).contiguous(memory_format=torch.channels_last)
    return lambda: [network(views).sum().backward() for _ in range(2)]


def take_turns(arms: dict[str, Arm], rounds: int) -> dict[str, list[float]]:
    """Processor seconds of each arm in each round, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    names = list(arms)
    for turn in range(rounds + 1):
        names.append(names.pop(0))  # what ran before leaves its mark on caches and heap: nobody is always last
        for name in names:
            began = time.process_time()
            arms[name]()
            if turn:
                seconds[name].append(time.process_time() - began)
    return seconds


def quartiles(values: np.ndarray, digits: int) -> list[float]:
    return [round(float(value), digits) for value in np.quantile(values, [0.25, 0.5, 0.75])]


def measure(case: tuple[int, int, int, int, str], rounds: int) -> dict[str, Any]:
    size, height, width, num, backbone = case
    images = pictures(num, height, width)
    training = f"{backbone} forward and backward"
    arms = {"simcore": simcore_arm(images, size), **torchvision_arms(images, size)}
    seconds = take_turns({**arms, training: training_arm(num, size, backbone)}, rounds)
    ours = np.array(seconds["simcore"])
    return {
        "view": size,
        "image": [height, width],
        "batch": num,
        "microseconds_per_view": {k: quartiles(np.array(v) / num / 2 * 1e6, 1) for k, v in seconds.items()},
        "times_slower_than_simcore": {k: quartiles(np.array(seconds[k]) / ours, 2) for k in arms if k != "simcore"},
        "percent_of_training": {
            name: quartiles(100 * np.array(seconds[name]) / np.array(seconds[training]), 2) for name in arms
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    result = {
        "what": (__doc__ or "").partition("\n")[0],
        "command": f"python benchmarks/views/throughput.py --rounds {args.rounds}",
        "reading": "three figures are the lower quartile, the median and the upper quartile over the rounds",
        "machine": machine.describe(),
        "cases": [measure(case, args.rounds) for case in CASES],
    }
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["cases"], indent=1))


if __name__ == "__main__":
    main()
