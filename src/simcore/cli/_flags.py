"""Flags and words of help that several commands share."""

from __future__ import annotations

import argparse
from typing import Any

from simcore.cluster import ADDRESS_HELP, ENGINE_HELP, ENGINES

MOVED_HELP = "go on though the files of the images have other dates, as copies do; all else must be the same"
SOURCE_HELP = """\
SOURCE is a path or URL; its kind is seen from what is there: a folder (flat, one folder per class, or train/ and
test/ of those), a .txt or .csv list, .tar shards ({0000..0999} or *), or Parquet in the Hugging Face image layout.
For detection and segmentation also COCO .json, VOC folders, and folders with images/ and masks/ (masks:FOLDER).
A prefix (folder:, list:, wds:, parquet:, coco:, voc:, masks:) overrides. A part of it:
SOURCE#classes=a,b&limit=1000&split=test (also limit-per-class=N, skip-per-class=N). Of a list or table with several
label columns: #label=COLUMN."""

ENCODER_HELP = """\
ENC is a RUN folder or a weights file (PATH@BACKBONE where the file does not say which), timm:NAME[@random],
torchvision:NAME[@random] or open_clip:NAME."""


def add_encoder_flags(parser: argparse.ArgumentParser, *, required: bool, several: bool = False) -> None:
    text = "network that makes the features" + (" (or several, to compare)" if several else "")
    parser.add_argument("--encoder", metavar="ENC", required=required, nargs="+" if several else None, help=text)
    parser.add_argument("--backbone", metavar="NAME", help="architecture, for a weights file that does not say it")
    parser.add_argument("--image-size", type=int, metavar="N", help="side of the images (default: the encoder's own)")
    parser.add_argument("--partial", action="store_true", help="accept weights that cover the backbone only in part")


def add_embed_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="images a forward pass (default: 64)")
    add_worker_flags(parser)
    parser.add_argument("--engine", default="local", choices=ENGINES, help=f"{ENGINE_HELP} (default: local)")
    parser.add_argument("--ray-address", metavar="HOST:PORT", help=ADDRESS_HELP)
    parser.add_argument("--precision", default="32", help="32, bf16-mixed or 16-mixed (default: 32, as published)")


def add_worker_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--num-workers", type=int, metavar="N", help="decode processes (default: one a core, up to 8)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps or auto (default: auto)")


def embed_settings(args: argparse.Namespace) -> dict[str, Any]:
    computing = ("batch_size", "num_workers", "device", "precision", "quiet", "engine", "ray_address")
    names = (*computing, "backbone", "image_size", "partial")
    return {name: getattr(args, name) for name in names if getattr(args, name, None) is not None}
