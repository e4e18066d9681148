"""Drawn scenes for the dense benchmarks: a few patterned things on a textured ground, with boxes and masks."""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
import machine
from simcore import pipeline
from simcore.errors import SimcoreWarning
from simcore.methods.simclr import SimCLR

RESULTS = Path(__file__).parents[1] / "results"
KINDS = ("disc", "square", "triangle")
MOST = 3  # things a scene

Field = npt.NDArray[np.float64]


def texture(rng: np.random.Generator, side: int) -> Field:
    """Noise of three grains added up, in two random colours, [side, side, 3] from 0 to 1."""
    grey = np.zeros((side, side))
    for grain in (2, 5, 16):
        coarse = Image.fromarray(rng.uniform(size=(max(2, side // grain),) * 2).astype(np.float32))
        grey += np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)) * grain
    grey = (grey - grey.min()) / np.ptp(grey)
    colours = rng.uniform(0.1, 0.9, (2, 3))
    return grey[..., None] * colours[0] + (1 - grey[..., None]) * colours[1]


def shape(kind: str, side: int) -> npt.NDArray[np.bool_]:
    """Say which cells of a square of ``side`` belong to the thing."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    if kind == "disc":
        return (x - 0.5) ** 2 + (y - 0.5) ** 2 <= 0.25
    return np.ones((side, side), bool) if kind == "square" else abs(x - 0.5) <= y / 2


def draw(
    rng: np.random.Generator, side: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], list[dict[str, Any]]]:
    """Draw one scene: pixels, mask (0 ground, then the kinds) and boxes; things do not touch."""
    pixels, mask, boxes = texture(rng, side), np.zeros((side, side), np.uint8), []
    for _ in range(int(rng.integers(1, MOST + 1))):
        number, size = int(rng.integers(len(KINDS))), int(rng.integers(side // 5, side // 2))
        left, top = rng.integers(0, side - size, 2)
        part = (slice(top, top + size), slice(left, left + size))
        if mask[part].any():
            continue
        inside = shape(KINDS[number], size)
        pixels[part][inside] = texture(rng, size)[inside]
        mask[part][inside] = number + 1
        boxes.append({"category_id": number + 1, "bbox": [int(left), int(top), size, size]})
    return np.rint(255 * np.clip(pixels, 0, 1)).astype(np.uint8), mask, boxes


def write(folder: Path, num: int, side: int, seed: int) -> Path:
    """Write ``images/``, ``masks/`` and ``boxes.json``; equal arguments give equal files."""
    if (folder / "boxes.json").exists():
        return folder
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(num):
        pixels, mask, boxes = draw(np.random.default_rng([seed, number]), side)
        Image.fromarray(pixels).save(folder / "images" / f"{number:04d}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number:04d}.png")
        images.append({"id": number, "file_name": f"{number:04d}.png", "width": side, "height": side})
        annotations += [{"id": len(annotations) + i, "image_id": number, **box} for i, box in enumerate(boxes, 1)]
    categories = [{"id": i, "name": name} for i, name in enumerate(KINDS, 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "boxes.json").write_text(json.dumps(content))
    return folder


def add_arguments(parser: Any) -> None:
    """Declare what both benchmarks take; with one --work they share scenes and backbones."""
    parser.add_argument("--work", type=Path, default=Path("runs/scenes"), help="folder for everything made")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--backbone", default="resnet10")
    parser.add_argument("--side", type=int, default=96, help="side of a scene in pixels")
    parser.add_argument("--num-unlabelled", type=int, default=600, help="scenes for pretraining")
    parser.add_argument("--num-train", type=int, default=100)
    parser.add_argument("--num-test", type=int, default=100)
    parser.add_argument("--pretrain-epochs", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--device", default="auto")


def compare(
    args: Any, name: str, task: Callable[[int], Any], source: Callable[[Path], str], what: str
) -> dict[str, Any]:
    """Train the task on the frozen backbone of ours and on random weights, once for every seed; write the result.

    With each seed the backbone is pretrained anew, or drawn anew; scenes are the same for all.
    """
    warnings.simplefilter("ignore", SimcoreWarning)
    began, side = time.monotonic(), args.side
    parts = {"pool": args.num_unlabelled, "train": args.num_train, "test": args.num_test}
    places = {
        part: write(args.work / f"{part}-{num}-{side}", num, side, seed)
        for seed, (part, num) in enumerate(parts.items())
    }
    figures: dict[str, dict[str, list[float]]] = {"pretrained": {}, "random": {}}
    for seed in args.seeds:
        run = args.work / f"simclr-seed{seed}"
        settings = {"epochs": args.pretrain_epochs, "image_size": side, "batch_size": 128, "lr": 1e-3, "seed": seed}
        more = {"optimizer": "adam", "device": args.device, "num_workers": 0, "resume": True, "quiet": True}
        images = str(places["pool"] / "images")
        pipeline.pretrain(SimCLR(), images, backbone=args.backbone, out=run, **settings, **more)
        for arm, encoder in (("pretrained", str(run)), ("random", f"timm:{args.backbone}@random")):
            report = pipeline.evaluate(
                task(seed),
                encoder,
                train=source(places["train"]),
                test=source(places["test"]),
                out=args.work / f"{name}-{arm}-seed{seed}",
                quiet=True,
                seed=seed,
                image_size=side,
                device=args.device,
            )
            print(seed, arm, {key: round(value, 2) for key, value in report.metrics.items()}, flush=True)
            for metric, value in report.metrics.items():
                figures[arm].setdefault(metric, []).append(round(value, 3))
    gains = {
        metric: [round(a - b, 3) for a, b in zip(figures["pretrained"][metric], figures["random"][metric], strict=True)]
        for metric in figures["random"]
    }
    result = {
        "what": what,
        "settings": {key: value for key, value in vars(args).items() if key != "work"},
        "machine": machine.describe(),
        "figures": figures,
        "gain": gains,
        "minutes": round((time.monotonic() - began) / 60, 1),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({"gain": gains, "minutes": result["minutes"]}, indent=1))
    return result
