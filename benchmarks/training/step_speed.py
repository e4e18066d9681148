"""What one SimCLR step costs beside the forward and backward pass that it cannot do without, and beside lightly's.

All arms have one backbone, batch, view recipe, optimizer and precision, and start from decoded images in memory. They
take turns in one process on one thread; what counts is the processor time of that process, and the ratios are taken
within a turn. ``bare`` is forward and backward of backbone and projector on views that are there already, in
simcore's memory layout (channels last); ``simcore`` is a whole step of ``simcore pretrain`` (batch order, views, loss,
optimizer); ``lightly`` is the loop of lightly's SimCLR example with its transform, collation, projection head and
loss, once as it stands and once in channels last as well.

On a GPU (``--device cuda``) what counts is the time on the clock of many steps in a row, all arms compute in bf16, and
lightly's views are made by as many worker processes as there are cores less two.

    python benchmarks/training/step_speed.py
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
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
from simcore.training._losses import LossMeter
from simcore.training._step import Stepper
from simcore.training.pretraining import _build, _Loader
from simcore.training.trainable import Moment

RESULTS = Path(__file__).parents[1] / "results"
CASES = {  # view and image size, images a batch, backbone
    "cpu": ((32, 256, "resnet10"), (64, 64, "resnet18"), (64, 64, "efficientnet_b0"), (96, 16, "resnet50")),
    "cuda": ((64, 256, "resnet18"), (224, 128, "resnet50")),
}
PRECISION = {"cpu": "32", "cuda": "bf16-mixed"}
STEPS_IN_A_ROW = {"cpu": 1, "cuda": 20}
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


def autocast(device: str) -> Any:
    return torch.autocast("cuda", torch.bfloat16) if device == "cuda" else contextlib.nullcontext()


def bare(size: int, num: int, backbone: str, device: str) -> Arm:
    model = layout(SimCLR().build(create_backbone(backbone, seed=0)), True).to(device).train()
    views = layout(torch.randn(2 * num, 3, size, size, device=device), True)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        with autocast(device):
            out = model.projector(model.backbone(views)).sum()
        out.backward()

    return step


def simcore(folder: Path, size: int, num: int, backbone: str, device: str) -> Arm:
    """Take the next batch (its order, decoded images, views) and step on it, as the loop does."""
    settings = PretrainSettings(batch_size=num, image_size=size, num_workers=0, device=device, tensorboard=False)
    fabric = make_fabric(device, PRECISION[device])
    model = _build(SimCLR(), backbone, settings, fabric)
    batches = _Loader(SimCLR(), open_images(folder), settings, fabric, quiet=True).batches(None, model, None)

    stepper, steps = Stepper(model, settings, fabric), itertools.count()
    stream = itertools.chain.from_iterable(batches(epoch, 0) for epoch in itertools.count())
    meter = LossMeter(fabric)

    def step() -> None:
        number = next(steps)
        moment = Moment(number, number, 5000, 1, 5000)
        meter.push(moment, stepper.step(next(stream), moment), stepper.lr, False)

    return step


def lightly(images: list[Image.Image], size: int, num: int, backbone: str, device: str, channels_last: bool) -> Arm:
    from lightly.loss import NTXentLoss
    from lightly.models.modules.heads import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform

    transform = SimCLRTransform(input_size=size, min_scale=0.2, gaussian_blur=0.0)
    network = create_backbone(backbone, seed=0)
    dim = int(network.num_features)  # type: ignore[arg-type]
    head = SimCLRProjectionHead(dim, dim, 128, batch_norm=False)
    model = layout(torch.nn.Sequential(network, head), channels_last).to(device).train()
    criterion = NTXentLoss(temperature=0.07)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=True)

    class Transformed(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return len(images) * (50 if device == "cuda" else 1)  # an epoch's end empties the workers' queues

        def __getitem__(self, row: int) -> Any:
            return transform(images[row % len(images)])

    workers = max(1, (os.cpu_count() or 1) - 2) if device == "cuda" else 0
    loader = torch.utils.data.DataLoader(
        Transformed(),
        batch_size=num,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=device == "cuda",
        persistent_workers=workers > 0,
    )
    stream = itertools.chain.from_iterable(iter(loader) for _ in itertools.count())

    def step() -> None:
        first, second = (layout(view.to(device, non_blocking=True), channels_last) for view in next(stream))
        with autocast(device):
            loss = criterion(model(first), model(second))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        float(loss.detach())

    return step


def by_clock(arms: dict[str, Callable[[], Arm]], rounds: int, steps: int) -> dict[str, np.ndarray]:
    """Seconds a step of each arm by the clock, over many steps in a row; what an arm prefetched does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, make in arms.items():
            step = make()
            for _ in range(steps):
                step()
            torch.cuda.synchronize()
            began = time.perf_counter()
            for _ in range(steps):
                step()
            torch.cuda.synchronize()
            seconds[name].append((time.perf_counter() - began) / steps)
            del step
    return {name: np.array(values) for name, values in seconds.items()}


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
    return [round(float(value), 4) for value in np.quantile(values, [0.25, 0.5, 0.75])]


def measure(case: tuple[int, int, str], rounds: int, device: str) -> dict[str, Any]:
    size, num, backbone = case
    with tempfile.TemporaryDirectory() as name:
        images = pictures(Path(name), 2 * num, size)
        arms: dict[str, Callable[[], Arm]] = {
            "bare": lambda: bare(size, num, backbone, device),
            "simcore": lambda: simcore(Path(name), size, num, backbone, device),
            "lightly": lambda: lightly(images, size, num, backbone, device, channels_last=False),
            "lightly channels last": lambda: lightly(images, size, num, backbone, device, channels_last=True),
        }
        if device == "cuda":
            seconds = by_clock(arms, rounds, STEPS_IN_A_ROW[device])
        else:
            seconds = take_turns({arm: make() for arm, make in arms.items()}, rounds)
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
    parser.add_argument("--rounds", type=int, help="default: 10, on a GPU 3")
    parser.add_argument("--device", choices=sorted(CASES), default="cpu")
    parser.add_argument("--out", type=Path, help="result file (default: results/training_step_speed[-cuda].json)")
    args = parser.parse_args()
    rounds = args.rounds or (3 if args.device == "cuda" else 10)
    torch.set_num_threads(1)
    flag = " --device cuda" if args.device == "cuda" else ""
    result = {
        "what": (__doc__ or "").partition("\n")[0],
        "command": f"python benchmarks/training/step_speed.py --rounds {rounds}{flag}",
        "reading": "three figures are the lower quartile, the median and the upper quartile over the rounds",
        "machine": machine.describe(),
        "device": args.device,
        "precision": PRECISION[args.device],
        "cases": [measure(case, rounds, args.device) for case in CASES[args.device]],
    }
    out = args.out or RESULTS / f"training_step_speed{'-cuda' if args.device == 'cuda' else ''}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["cases"], indent=1))


if __name__ == "__main__":
    main()
