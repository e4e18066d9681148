"""Does every method learn? kNN accuracy of each after a short run on X alone, against its own random weights.

X is the first 100 train images of each class of a fine-grained group of Tiny-ImageNet, the test set its other train
images and its validation images; labels are used for the kNN figure alone. A method has learned if, over the seeds, its
smallest gain exceeds the spread (largest less smallest) of the random networks. Settings are the methods' defaults but
for what is listed under ``changed``: widths that a CPU cannot carry, a temperature for few negatives, and Adam, since
the published SGD needs larger batches and thousands of epochs. The result file is renewed after each run and keeps the
runs that it has of the same settings; finished runs in ``--work`` are not redone. ``--jobs`` runs several side by side,
which a GPU has room for.

    python benchmarks/training/learning.py --data DIR
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import jobs
import machine
import tiny_imagenet
from simcore import registry
from simcore.embedding import load_encoder
from simcore.images import ImageSource, open_images
from simcore.tasks.knn import KNN
from simcore.training import PretrainSettings, pretrain

RESULT = Path(__file__).parents[1] / "results" / "training_learning.json"
CHANGED: dict[str, dict[str, Any]] = {
    "byol": {"hidden_dim": 1024},
    "dino": {"out_dim": 1024, "hidden_dim": 512, "drop_path": 0.0, "initial_ema": 0.99, "num_local_crops": 2},
    "mae": {"decoder_depth": 2, "decoder_dim": 128, "decoder_heads": 4},
    "moco": {"temperature": 0.2},
    "simclr": {"temperature": 0.2},
    "simsiam": {"hidden_dim": 1024, "predictor_dim": 1024},
    "swav": {"hidden_dim": 512, "projection_dim": 128, "num_local_crops": 2},
}
SETTINGS = ("image_size", "epochs", "batch_size", "lr", "precision")
VIT = {"mae": ("dino_vit_t16", 128)}  # as many patches as a 64 px image has of 8 px


def train(name: str, images: ImageSource, args: argparse.Namespace, seed: int) -> Path:
    backbone, image_size = VIT.get(name, (args.backbone, args.image_size))
    out = args.work / f"{name}-seed{seed}"
    settings = PretrainSettings(
        epochs=args.epochs,
        batch_size=args.batch_size,
        image_size=image_size,
        optimizer="adam",
        lr=args.lr,
        precision=args.precision,
        warmup_epochs=args.epochs // 10,
        seed=seed,
        num_workers=0,
        tensorboard=False,
        probe_every=10,
    )
    method = registry.find("methods", name)(**CHANGED.get(name, {}))
    pretrain(method, images, backbone=backbone, settings=settings, out=out, resume=True, moved=True, quiet=True)
    return out


def accuracy(encoder: Any, train: ImageSource, test: ImageSource) -> float:
    report = KNN(k=(20,)).run(encoder, train, test, out=None, quiet=True)
    return float(report.metrics["top1_k20"])


def run(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train one method with one seed, and measure it and the random weights that it began with."""
    torch.set_num_threads(1)
    backbone, image_size = VIT.get(name, (args.backbone, args.image_size))
    group = tiny_imagenet.groups(args.data)[args.target]
    images, test = open_images(group.target), open_images(group.held_out) + open_images(group.test)
    random = accuracy(load_encoder(f"timm:{backbone}@random", seed=seed, image_size=image_size), images, test)
    began, busy = time.monotonic(), time.process_time()
    place = train(name, images, args, seed)
    row = {"seed": seed, "random": random, "learned": accuracy(load_encoder(place), images, test)}
    seconds = {"seconds": time.monotonic() - began, "processor_seconds": time.process_time() - busy}
    row |= {"gpu": machine.gpu()} | {name: round(value) for name, value in seconds.items()}
    print(name, json.dumps(row), flush=True)
    return row


def judged(name: str, rows: list[dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    """Put the seeds of one method together."""
    backbone, image_size = VIT.get(name, (args.backbone, args.image_size))
    random, gains = [row["random"] for row in rows], [row["learned"] - row["random"] for row in rows]
    return {
        "backbone": backbone,
        "image_size": image_size,
        "runs": rows,
        "gains": gains,
        "has_learned": min(gains) > max(random) - min(random),
    }


def write(args: argparse.Namespace, found: dict[str, list[dict[str, Any]]]) -> None:
    """Renew the result file; runs that it has of the same settings stay."""
    settings = {"optimizer": "adam"} | {name: getattr(args, name) for name in SETTINGS}
    settings |= {"changed": CHANGED, "vit": VIT}
    settings = json.loads(json.dumps(settings))
    before = json.loads(args.out.read_text()) if args.out.is_file() else {}
    kept = before["methods"] if before.get("settings") == settings else {}
    merged = {name: {row["seed"]: row for row in body["runs"]} for name, body in kept.items()}
    for name, rows in found.items():
        merged.setdefault(name, {}).update({row["seed"]: row for row in rows})
    group = tiny_imagenet.groups(args.data)[args.target]
    result = {
        "what": (__doc__ or "").partition("\n")[0],
        "command": f"python benchmarks/training/learning.py --data DIR --target {args.target}",
        "metric": "kNN top-1 in percent, 20 neighbours",
        "num_images": len(open_images(group.target)),
        "num_test": len(open_images(group.held_out)) + len(open_images(group.test)),
        "chance": round(100 / len(group.wnids), 1),
        "settings": settings,
        "machine": machine.describe(),
        "methods": {
            name: judged(name, [rows[seed] for seed in sorted(rows)], args) for name, rows in sorted(merged.items())
        },
    }
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tiny_imagenet.add_flag(parser)
    parser.add_argument("--work", type=Path, default=Path("runs/learning"), help="folder for the runs; resumed")
    parser.add_argument("--target", default="pets")
    parser.add_argument("--methods", nargs="+", default=registry.names("methods"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--backbone", default="resnet10")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--precision", default="bf16-mixed", help="bf16 makes a step a quarter shorter here")
    parser.add_argument("--out", type=Path, default=RESULT)
    jobs.add_flag(parser)
    args = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {}
    tasks = [(name, seed, args) for seed in args.seeds for name in args.methods]
    for (name, _, _), row in jobs.finished(run, tasks, args.jobs):
        found.setdefault(name, []).append(row)
        write(args, found)


if __name__ == "__main__":
    main()
