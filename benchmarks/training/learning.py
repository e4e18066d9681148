"""Does every method learn? kNN accuracy of each after a short run on X alone, against its own random weights.

X is the first 100 train images of each class of a fine-grained group of Tiny-ImageNet, the test set its other train
images and its validation images; labels are used for the kNN figure alone. A method has learned if, over the seeds, its
smallest gain exceeds the spread (largest less smallest) of the random networks. Settings are the methods' defaults but
for what is listed under ``changed``: widths that a CPU cannot carry, a temperature for few negatives, and Adam, since
the published SGD needs larger batches and thousands of epochs. The result file is renewed after each method; finished
runs in ``--work`` are not redone.

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
VIT = {"mae": ("dino_vit_t16", 64)}


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


def study(name: str, train_images: ImageSource, test: ImageSource, args: argparse.Namespace) -> dict[str, Any]:
    backbone, image_size = VIT.get(name, (args.backbone, args.image_size))
    random, learned, seconds = [], [], []
    for seed in args.seeds:
        fresh = load_encoder(f"timm:{backbone}@random", seed=seed, image_size=image_size)
        random.append(accuracy(fresh, train_images, test))
        began = time.process_time()
        run = train(name, train_images, args, seed)
        seconds.append(round(time.process_time() - began))
        learned.append(accuracy(load_encoder(run), train_images, test))
    gains = [after - before for before, after in zip(random, learned, strict=True)]
    found = {
        "backbone": backbone,
        "image_size": image_size,
        "random": random,
        "learned": learned,
        "gains": gains,
        "has_learned": min(gains) > max(random) - min(random),
        "processor_seconds": seconds,
    }
    print(name, json.dumps(found), flush=True)
    return found


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
    args = parser.parse_args()
    torch.set_num_threads(1)
    group = tiny_imagenet.groups(args.data)[args.target]
    images, test = open_images(group.target), open_images(group.held_out) + open_images(group.test)
    settings = {"optimizer": "adam"} | {name: getattr(args, name) for name in SETTINGS}
    before = json.loads(args.out.read_text()) if args.out.is_file() else {}
    found: dict[str, Any] = before["methods"] if before.get("settings") == settings else {}
    for name in args.methods:
        found[name] = study(name, images, test, args)
        result = {
            "what": (__doc__ or "").partition("\n")[0],
            "command": f"python benchmarks/training/learning.py --data DIR --target {args.target}",
            "metric": "kNN top-1 in percent, 20 neighbours",
            "num_images": len(images),
            "num_test": len(test),
            "chance": round(100 / len(group.wnids), 1),
            "settings": settings,
            "changed": CHANGED,
            "machine": machine.describe(),
            "methods": dict(sorted(found.items())),
        }
        args.out.parent.mkdir(exist_ok=True)
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
