"""What the benchmarks of learning with few or noisy labels share: their images, the backbone, and how arms are told."""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from _finished import finished

sys.path.insert(0, str(Path(__file__).parents[1]))
import jobs
import machine
import tiny_imagenet
from simcore import pipeline
from simcore.artifacts import Report
from simcore.embedding import load_encoder
from simcore.errors import SimcoreWarning
from simcore.images import open_images
from simcore.methods.simclr import SimCLR

RESULTS = Path(__file__).parents[1] / "results"
Lines = dict[str, list[dict[str, Any]]]


TARGETS = ("pets", "vehicles", "food", "distinct")


def arguments(
    name: str, text: str | None, *, epochs: int, target: str = "pets", per_class: int = 100
) -> argparse.ArgumentParser:
    """Declare what all of them take."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    tiny_imagenet.add_flag(parser)
    parser.add_argument("--work", type=Path, default=Path("runs") / name, help="folder for everything made")
    parser.add_argument("--target", default=target, choices=TARGETS)
    parser.add_argument("--encoder", help="RUN that every arm begins with (default: SimCLR on X)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--per-class", type=int, default=per_class)
    parser.add_argument("--backbone", default="resnet10")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--pretrain-steps", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.03)
    parser.add_argument("--device", default="auto")
    jobs.add_flag(parser)
    parser.add_argument("--out", type=Path, help=f"result file (default: results/{name}-TARGET.json)")
    return parser


def sources(args: argparse.Namespace) -> dict[str, str]:
    """Name X, its test set and the foreign images: those of all other fine-grained targets."""
    groups = tiny_imagenet.groups(args.data, per_class=args.per_class)
    own = groups.pop(args.target, None) or tiny_imagenet.distinct(args.data, per_class=args.per_class)
    foreign = tuple(name for group in groups.values() for name in group.wnids if name not in own.wnids)
    return {"train": own.target, "test": own.test, "foreign": dataclasses.replace(own, wnids=foreign).target}


def backbone(args: argparse.Namespace, train: str) -> str:
    """Give the encoder that every arm begins with, pretrained on X if none is named."""
    if args.encoder:
        return str(args.encoder)
    out = args.work / "encoder"
    pipeline.pretrain(
        SimCLR(),
        train,
        backbone=args.backbone,
        out=out,
        resume=True,
        moved=True,
        max_steps=args.pretrain_steps,
        batch_size=128,
        image_size=args.image_size,
        optimizer="adam",
        lr=1e-3,
        num_workers=0,
        device=args.device,
        tensorboard=False,
        probe_every=0,
    )
    return str(out)


def evaluated(
    args: argparse.Namespace, task: Any, places: dict[str, str], encoder: str, out: Path, **more: str
) -> tuple[Report, float | None]:
    """Evaluate a task in ``out``, and time it; a finished run of the same is read instead, without a time."""
    warnings.simplefilter("ignore", SimcoreWarning)
    sources = {side: open_images(place) for side, place in ({s: places[s] for s in ("train", "test")} | more).items()}
    network = load_encoder(encoder, image_size=args.image_size)
    ready = finished(task, network, sources, out)
    if ready is not None:
        return ready, None
    began = time.monotonic()
    report = pipeline.evaluate(task, network, **sources, out=out, quiet=True)
    return report, round(time.monotonic() - began, 1)


def gained(values: Sequence[float], base: Sequence[float]) -> dict[str, Any]:
    """Say what an arm gains over the baseline with the same seed, and whether it does so with every seed."""
    gains = [round(one - other, 2) for one, other in zip(values, base, strict=True)]
    return {"gain": gains, "wins": min(gains) > 0}


def in_order(parts: Iterable[list[dict[str, Any]]]) -> None:
    """Sort the lines of each arm by seed; side by side they end in any order."""
    for lines in parts:
        lines.sort(key=lambda line: line["seed"])


def mean_and_spread(values: Sequence[float]) -> dict[str, float | None]:
    """Mean and standard deviation of accuracies over seeds."""
    spread = round(statistics.stdev(values), 2) if len(values) > 1 else None
    return {"top1": round(statistics.mean(values), 2), "std": spread}


def table(found: Lines, baseline: str) -> dict[str, dict[str, Any]]:
    """Mean and spread over seeds, and what each arm gains over the baseline with the same seed."""
    base = [line["top1"] for line in found[baseline]]
    accuracies = {name: [line["top1"] for line in lines] for name, lines in found.items()}
    return {name: mean_and_spread(values) | gained(values, base) for name, values in accuracies.items()}


def measure(
    name: str, text: str | None, args: argparse.Namespace, run: Callable[[dict[str, str], str], dict[str, Any]]
) -> None:
    """Make what all arms share, run them (images, encoder -> tables and runs), and write the result file."""
    warnings.simplefilter("ignore", SimcoreWarning)
    began = time.monotonic()
    places = sources(args)
    found = run(places, backbone(args, places["train"]))
    result = {
        "what": (text or "").partition("\n")[0],
        "settings": {k: v for k, v in vars(args).items() if k not in ("data", "work", "out", "jobs")},
        "machine": machine.describe(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() and args.device != "cpu" else "cpu",
        **found,
        "minutes": round((time.monotonic() - began) / 60, 1),
    }
    out = args.out or RESULTS / f"{name}-{args.target}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    shown = result.get("tables", result.get("table"))
    print(json.dumps(shown, indent=1))
