"""Make what `study.py` reads: encoders trained in different ways, and their features of Tiny-ImageNet and CIFAR-10.

Encoders: random weights, SSL (SimCLR) on the whole pool, and SSL on the images of each target alone. All through the
command line; what is there already is kept.

    python benchmarks/selection/encoders.py --tiny DIR --cifar DIR --work WORK
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny_imagenet


def simcore(*words: str) -> None:
    print("$ simcore", *words, flush=True)
    subprocess.run([sys.executable, "-m", "simcore", *words], check=True)


def train(args: argparse.Namespace, name: str, *source: str) -> str:
    """Pretrain by SimCLR; give the encoder's folder."""
    out = str(args.work / f"run-{name}")
    size = ["--backbone", args.backbone, "--image-size", str(args.image_size), "--batch-size", str(args.batch_size)]
    rule = [
        "--optimizer",
        "adam",
        "--lr",
        "1e-3",
        "--max-steps",
        str(args.steps),
        "--num-workers",
        "0",
        "--resume",
        "--moved",
    ]
    simcore("pretrain", *source, *size, *rule, "--out", out)
    return out


def embed(args: argparse.Namespace, name: str, encoder: str) -> None:
    """Embed both sets into ``WORK/tiny-NAME`` and ``WORK/cifar-NAME``."""
    extra = ["--image-size", str(args.image_size)] if ":" in encoder else []
    for place, source in (("tiny", f"{args.tiny}/train-*.parquet"), ("cifar", f"wds:{args.cifar}/cifar10-*.tar")):
        simcore("embed", source, "--encoder", encoder, *extra, "--moved", "--out", str(args.work / f"{place}-{name}"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", type=Path, required=True, help="Tiny-ImageNet as Parquet, with targets.json")
    parser.add_argument("--cifar", type=Path, required=True, help="CIFAR-10 as tar shards")
    parser.add_argument("--work", type=Path, default=Path("runs/selection_study"))
    parser.add_argument("--backbone", default="resnet10")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=400)
    args = parser.parse_args()
    args.tiny, args.cifar = args.tiny.resolve(), args.cifar.resolve()
    embed(args, "random", f"timm:{args.backbone}@random")
    for target, group in tiny_imagenet.groups(args.tiny).items():
        embed(args, f"x-ssl-{target}", train(args, f"x-ssl-{target}", "--target", group.target))
    embed(args, "pool-ssl", train(args, "pool-ssl", "--pool", f"{args.tiny}/train-*.parquet"))


if __name__ == "__main__":
    main()
