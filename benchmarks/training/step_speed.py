"""What one SimCLR step costs beside the forward and backward pass that it cannot do without, and beside lightly's.

All arms have one backbone, batch, view recipe, optimizer and precision, and start from decoded images in memory. They
take turns in one process on one thread; what counts is the processor time of that process, and the ratios are taken
within a turn. ``bare`` is forward and backward of backbone and projector on views that are there already, in
simcore's memory layout (channels last); ``simcore`` is a whole step of ``simcore pretrain`` (batch order, views, loss,
optimizer); ``lightly`` is the loop of lightly's SimCLR example with its transform, collation, projection head and
loss, once as it stands and once in channels last as well.

    python benchmarks/training/step_speed.py
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
import machine
from simcore.backbones import create_backbone
from simcore.images import open_images
from simcore.methods.simclr import SimCLR
from simcore.training import PretrainSettings, make_fabric
from simcore.training._step import Stepper
from simcore.training.pretraining import _build, _Loader
from simcore.training.trainable import Moment

RESULT = Path(__file__).parents[1] / "results" / "training_step_speed.json"
CASES = (  # view and image size, images a batch, backbone
    (32, 256, "resnet10"),
    (64, 64, "resnet18"),
    (64, 64, "efficientnet_b0"),
    (96, 16, "resnet50"),
)
Arm = Callable[[], Any]


def pictures(folder: Path, num: int, size: int) -> list[Image.Image]:
    """Smooth random colours, on disk and in memory."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (num, 8, 8, 3), dtype=np.uint8)
    images = [Image.fromarray(one).resize((size, size), Image.Resampling.BICUBIC) for one in coarse]
    for number, image in enumerate(images):
        image.save(folder / f"{number:04}.png")
    return images


def layout(module: Any, channels_last: bool) -> Any:
    return module.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def bare(size: int, num: int, backbone: str) -> Arm:
    model = layout(SimCLR().build(create_backbone(backbone, seed=0)), True).train()
    views = layout(torch.randn(2 * num, 3, size, size), True)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        model.projector(model.backbone(views)).sum().backward()

    return step


def simcore(folder: Path, size: int, num: int, backbone: str) -> Arm:
    """Take the next batch (its order, decoded images, views) and step on it, as the loop does."""
    settings = PretrainSettings(batch_size=num, image_size=size, num_workers=0, device="cpu", tensorboard=False)
    fabric = make_fabric("cpu")
    model = _build(SimCLR(), backbone, settings, fabric)
    batches = _Loader(SimCLR(), open_images(folder), settings, fabric, quiet=True).batches(None, model, None)

    stepper, steps = Stepper(model, settings, fabric), itertools.count()
    stream = itertools.chain.from_iterable(batches(epoch, 0) for epoch in itertools.count())

    def step() -> None:
        number = next(steps)
        float(stepper.step(next(stream), Moment(number, number, 5000, 1, 5000)).loss)

    return step


def lightly(images: list[Image.Image], size: int, num: int, backbone: str, channels_last: bool) -> Arm:
    from lightly.loss import NTXentLoss
    from lightly.models.modules.heads import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform

    transform = SimCLRTransform(input_size=size, min_scale=0.2, gaussian_blur=0.0)
    network = create_backbone(backbone, seed=0)
    dim = int(network.num_features)  # type: ignore[arg-type]
    head = SimCLRProjectionHead(dim, dim, 128, batch_norm=False)
    model = layout(torch.nn.Sequential(network, head), channels_last).train()
    criterion = NTXentLoss(temperature=0.07)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=True)

    class Transformed(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, row: int) -> Any:
            return transform(images[row])

    loader = torch.utils.data.DataLoader(Transformed(), batch_size=num, shuffle=True, drop_last=True)
    stream = itertools.chain.from_iterable(iter(loader) for _ in itertools.count())

    def step() -> None:
        first, second = (layout(view, channels_last) for view in next(stream))
        loss = criterion(model(first), model(second))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        float(loss.detach())

    return step


def take_turns(arms: dict[str, Arm], rounds: int) -> dict[str, np.ndarray]:
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
    return {name: np.array(values) for name, values in seconds.items()}


def quartiles(values: np.ndarray) -> list[float]:
    return [round(float(value), 3) for value in np.quantile(values, [0.25, 0.5, 0.75])]


def measure(case: tuple[int, int, str], rounds: int) -> dict[str, Any]:
    size, num, backbone = case
    with tempfile.TemporaryDirectory() as name:
        images = pictures(Path(name), 2 * num, size)
        arms = {
            "bare": bare(size, num, backbone),
            "simcore": simcore(Path(name), size, num, backbone),
            "lightly": lightly(images, size, num, backbone, channels_last=False),
            "lightly channels last": lightly(images, size, num, backbone, channels_last=True),
        }
        seconds = take_turns(arms, rounds)
    return {
        "view": size,
        "batch": num,
        "backbone": backbone,
        "seconds": {arm: quartiles(values) for arm, values in seconds.items()},
        "speed_against_bare": quartiles(seconds["bare"] / seconds["simcore"]),
        "speed_against_lightly": quartiles(seconds["lightly"] / seconds["simcore"]),
        "speed_against_lightly_channels_last": quartiles(seconds["lightly channels last"] / seconds["simcore"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    result = {
        "what": (__doc__ or "").partition("\n")[0],
        "command": f"python benchmarks/training/step_speed.py --rounds {args.rounds}",
        "reading": "three figures are the lower quartile, the median and the upper quartile over the rounds",
        "machine": machine.describe(),
        "cases": [measure(case, args.rounds) for case in CASES],
    }
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["cases"], indent=1))


if __name__ == "__main__":
    main()
