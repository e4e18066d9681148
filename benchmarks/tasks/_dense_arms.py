"""What the dense benchmarks share: the scenes, the backbones that are compared, and how arms are run and told.

Arms train the same heads on frozen backbones: one pretrained by SimCLR on scenes without labels, and random weights
twice. A random network whose batch normalisation has never seen an image (``random_as_drawn``) hardly scales what it
passes on; ``random`` has had its statistics measured on the very scenes that the other was pretrained on, so that the
gain over it is that of the weights.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import _photographs
import _scenes
import torch
from _finished import finished
from torch.nn.modules.batchnorm import _BatchNorm

sys.path.insert(0, str(Path(__file__).parents[1]))
import machine
from simcore import pipeline
from simcore.artifacts.files import read_json, write_json
from simcore.embedding import Encoder, load_encoder
from simcore.errors import SimcoreWarning
from simcore.images import ImageSource, open_images
from simcore.methods.simclr import SimCLR

RESULTS = Path(__file__).parents[1] / "results"
ARMS = ("pretrained", "random", "random_as_drawn")
AT_ONCE = 60


def arguments(text: str | None, *, epochs: int, batch_size: int, lr: float) -> argparse.ArgumentParser:
    """Declare what both take; with one --work they share scenes and backbones."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="Tiny-ImageNet as Parquet: scenes of its photographs, not drawn ones")
    parser.add_argument("--work", type=Path, help="folder for everything made (default: one under runs/)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--backbone", default="resnet10")
    parser.add_argument("--side", type=int, default=64, help="side of a scene in pixels")
    parser.add_argument("--num-unlabelled", type=int, default=600, help="scenes for pretraining")
    parser.add_argument("--num-train", type=int, default=60, help="scenes with labels")
    parser.add_argument("--num-test", type=int, default=100)
    parser.add_argument("--pretrain-epochs", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--batch-size", type=int, default=batch_size)
    parser.add_argument("--lr", type=float, default=lr)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--out", type=Path, help="result file (default: results/NAME.json, with --data NAME-photos.json)"
    )
    return parser


def kinds(args: argparse.Namespace) -> tuple[str, ...]:
    """Name the classes of things in the scenes."""
    return _scenes.Drawn.kinds if args.data is None else _photographs.KINDS


def materials(args: argparse.Namespace) -> dict[str, _scenes.Material]:
    """Say what each part's scenes are made of; test scenes of photographs show none that another scene shows."""
    if args.data is None:
        return dict.fromkeys(("pool", "train", "test"), _scenes.Drawn())
    seen, unseen = (_photographs.photographs(args.data, files) for files in ("train-*.parquet", "val.parquet"))
    return {"pool": seen, "train": seen, "test": unseen}


def compare(
    args: argparse.Namespace, name: str, task: Callable[[int], Any], source: Callable[[Path], str], what: str
) -> None:
    """Run every arm with every seed, or take over what an earlier run finished, and write the result.

    With each seed the backbone is pretrained anew, or drawn anew; scenes are the same for all.
    """
    warnings.simplefilter("ignore", SimcoreWarning)
    args.work = args.work or Path("runs/scenes" if args.data is None else "runs/photo-scenes")
    parts = {"pool": args.num_unlabelled, "train": args.num_train, "test": args.num_test}
    made_of = materials(args)
    places = {
        part: _scenes.write(args.work / f"{part}-{num}-{args.side}", made_of[part], num, args.side, seed)
        for seed, (part, num) in enumerate(parts.items())
    }
    pool = open_images(places["pool"] / "images")
    sets = {part: open_images(source(places[part])) for part in ("train", "test")}
    figures: dict[str, dict[str, list[float]]] = {arm: {} for arm in ARMS}
    runs, outs = [], []
    for seed in args.seeds:
        runs.append(_pretrained(args, pool, seed))
        for arm, encoder in _encoders(args, pool, seed, runs[-1]):
            outs.append(args.work / f"{name}-{arm}-seed{seed}")
            report = finished(task(seed), encoder, sets, outs[-1])
            if report is None:
                with _timed(outs[-1]):
                    report = pipeline.evaluate(task(seed), encoder, **sets, out=outs[-1], quiet=True)
            print(seed, arm, {key: round(value, 2) for key, value in report.metrics.items()}, flush=True)
            for metric, value in report.metrics.items():
                figures[arm].setdefault(metric, []).append(round(value, 3))
    _tell(args, name, what, figures, {place.name: _seconds(place) for place in (*runs, *outs)})


def _pretrained(args: argparse.Namespace, pool: ImageSource, seed: int) -> Path:
    """Pretrain a backbone, unless it is there already."""
    run = args.work / f"simclr-{args.backbone}-{args.side}-{len(pool)}-{args.pretrain_epochs}epochs-seed{seed}"
    settings = {"epochs": args.pretrain_epochs, "image_size": args.side, "batch_size": 60, "lr": 1e-3, "seed": seed}
    more = {"optimizer": "adam", "device": args.device, "num_workers": 0, "resume": True, "moved": True, "quiet": True}
    with _timed(run) if not (run / "backbone.safetensors").is_file() else contextlib.nullcontext():
        pipeline.pretrain(SimCLR(), pool, backbone=args.backbone, out=run, **settings, **more)
    return run


@contextlib.contextmanager
def _timed(out: Path) -> Iterator[None]:
    """Leave in ``out`` how long a core was busy with what is done inside; of what was interrupted, the last part."""
    began = time.process_time()
    yield
    write_json(out / "cpu_seconds.json", round(time.process_time() - began, 1))


def _seconds(out: Path) -> float | None:
    place = out / "cpu_seconds.json"
    return float(read_json(place)) if place.is_file() else None


def _encoders(args: argparse.Namespace, pool: ImageSource, seed: int, run: Path) -> Iterator[tuple[str, Encoder]]:
    """Give the backbones of one seed by the name of their arm."""
    drawn = {"seed": seed, "image_size": args.side, "device": args.device}
    yield "pretrained", load_encoder(run, device=args.device)
    yield "random", calibrated(load_encoder(f"timm:{args.backbone}@random", **drawn), pool)
    yield "random_as_drawn", load_encoder(f"timm:{args.backbone}@random", **drawn)


@torch.no_grad()
def calibrated(encoder: Encoder, images: ImageSource) -> Encoder:
    """Let batch normalisation measure its mean and variance in one pass over the images, every batch weighing alike."""
    for module in encoder.backbone.modules():
        if isinstance(module, _BatchNorm):
            module.reset_running_stats()
            module.momentum = None  # a plain mean over batches
    encoder.backbone.train()
    for first in range(0, len(images) - AT_ONCE + 1, AT_ONCE):
        pixels = [torch.from_numpy(images.decode(row).pixels) for row in range(first, first + AT_ONCE)]
        encoder(torch.stack(pixels).permute(0, 3, 1, 2).to(encoder.device))
    encoder.backbone.eval()
    return encoder


def _tell(
    args: argparse.Namespace,
    name: str,
    what: str,
    figures: dict[str, dict[str, list[float]]],
    seconds: dict[str, float | None],
) -> None:
    """Write the result file and print the means with their spread over seeds."""
    gains = {
        other: {
            metric: [round(a - b, 3) for a, b in zip(figures["pretrained"][metric], values, strict=True)]
            for metric, values in figures[other].items()
        }
        for other in ARMS[1:]
    }
    result = {
        "what": what,
        "command": f"python benchmarks/tasks/{name}.py{' --data DIR' if args.data else ''}",
        "settings": {key: value for key, value in vars(args).items() if key not in ("data", "work", "out")},
        "machine": machine.describe(),
        "figures": figures,
        "gain_over": gains,
        "cpu_seconds": seconds,
    }
    write_json(args.out or RESULTS / f"{name}{'-photos' if args.data else ''}.json", result)
    for arm, metrics in figures.items():
        means = {metric: f"{statistics.mean(v):.1f} ({min(v):.1f} to {max(v):.1f})" for metric, v in metrics.items()}
        print(f"{arm:16}", *(f"{metric} {text}" for metric, text in means.items()), sep="  ")
    print(f"{sum(filter(None, seconds.values())) / 60:.1f} minutes of one core")
