"""How fast is embedding beside a plain timm script, and beside Hugging Face's datasets and image processor?

All arms read one folder of JPEG files, have one network with the same weights and end with the features in memory;
they take turns, with one torch thread and one worker process each, and ratios are taken within a turn.

- `simcore`: the Embedder as users call it.
- `timm script`: torchvision's ImageFolder with timm's own evaluation transform in torch's DataLoader, the network in
  inference mode; once as it stands, once in channels last, which the Embedder does by itself.
- `datasets + transformers`: an imagefolder of `datasets` with transformers' processor for ResNets, in torch's
  DataLoader. Left out where those packages are not installed (`pip install datasets transformers`).

`cpu` is of this process and its worker together; it does not show what other work does to the clock. `difference` is
the largest difference of a feature from the Embedder's in fp32, over the largest feature: resizing and cropping are set
to the same sizes, yet each decodes and resizes in its own way.

    python benchmarks/embedding/peers.py
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.data import create_transform
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

sys.path.insert(0, str(Path(__file__).parents[1]))
from throughput import draw_folder, timed

import machine
from simcore.embedding import Embedder, Encoder, load_encoder
from simcore.images import ImageSource, open_images

RESULT = Path(__file__).parents[1] / "results" / "embedding_peers.json"
BATCH = 64
CASES = (  # width, height, backbone, image size, files
    (64, 64, "resnet10", 64, 1024),
    (500, 375, "resnet18", 224, 128),
)
OPTIONAL = ("datasets", "transformers")
Arm = Callable[[ImageSource, Encoder], np.ndarray]


def simcore(images: ImageSource, encoder: Encoder, dtype: str = "float16") -> np.ndarray:
    embedder = Embedder(encoder, batch_size=BATCH, num_workers=1, dtype=dtype, quiet=True)
    return np.asarray(embedder(images).features)


def timm_script(folder: Path, channels_last: bool) -> Arm:
    """Give what timm's documentation does for features, set to the encoder's sizes."""

    def run(images: ImageSource, encoder: Encoder) -> np.ndarray:
        layout = torch.channels_last if channels_last else torch.contiguous_format
        network = encoder.backbone.to(memory_format=layout).eval()
        transform = create_transform(
            input_size=(3, encoder.image_size, encoder.image_size),
            crop_pct=encoder.image_size / (encoder.resize_size + 0.01),  # timm rounds down
            interpolation=encoder.transform.interpolation,
            mean=encoder.mean,
            std=encoder.std,
        )
        loader = DataLoader(ImageFolder(str(folder), transform), batch_size=BATCH, num_workers=1)
        with torch.inference_mode():
            found = [network(batch.to(memory_format=layout)) for batch, _ in loader]
        return torch.cat(found).numpy()

    return run


def hugging_face(folder: Path) -> Arm:
    """Give the way of a data set of the hub: a table of pictures, decoded and processed as they are asked for."""
    from transformers import ConvNextImageProcessor

    from datasets import load_dataset

    table = load_dataset("imagefolder", data_dir=str(folder), split="train", cache_dir=str(folder.parent / "cache"))

    def run(images: ImageSource, encoder: Encoder) -> np.ndarray:
        network = encoder.backbone.to(memory_format=torch.contiguous_format).eval()
        processor = ConvNextImageProcessor(
            size={"shortest_edge": encoder.image_size},
            crop_pct=encoder.image_size / (encoder.resize_size + 0.01),
            resample=2 if encoder.transform.interpolation == "bilinear" else 3,
            image_mean=list(encoder.mean),
            image_std=list(encoder.std),
        )
        seen = table.with_transform(
            lambda rows: processor([i.convert("RGB") for i in rows["image"]], return_tensors="pt")
        )
        loader = DataLoader(seen, batch_size=BATCH, num_workers=1)
        with torch.inference_mode():
            return torch.cat([network(batch["pixel_values"]) for batch in loader]).numpy()

    return run


def arms_for(folder: Path) -> dict[str, Arm]:
    arms: dict[str, Arm] = {
        "simcore": simcore,
        "timm script": timm_script(folder, channels_last=False),
        "timm script, channels last": timm_script(folder, channels_last=True),
    }
    if all(importlib.util.find_spec(name) for name in OPTIONAL):
        arms["datasets + transformers"] = hugging_face(folder)
    return arms


def measure(case: tuple[int, int, str, int, int], turns: int) -> dict[str, Any]:
    width, height, backbone, size, count = case
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "images"
        (folder / "all").mkdir(parents=True)
        draw_folder(folder / "all", width, height, count)
        images, arms = open_images(folder), arms_for(folder)
        encoders = {arm: load_encoder(f"timm:{backbone}@random", device="cpu", image_size=size) for arm in arms}
        exact = simcore(images, encoders["simcore"], "float32")
        others = {arm: run(images, encoders[arm]) for arm, run in arms.items() if arm != "simcore"}  # also warms up
        seconds = take_turns(arms, images, encoders, turns)
    cpu, wall = (
        {arm: s["own"] + s["worker"] for arm, s in seconds.items()},
        {a: s["wall"] for a, s in seconds.items()},
    )
    rivals = [arm for arm in arms if arm != "simcore"]
    return {
        "jpeg": f"{width}x{height}",
        "backbone": backbone,
        "image_size": size,
        "num_images": count,
        "images_per_second": {arm: round(1 / float(np.median(wall[arm])), 1) for arm in arms},
        "cpu_milliseconds": {arm: round(1e3 * float(np.median(cpu[arm])), 3) for arm in arms},
        "times_simcore": {
            arm: {"wall": quartiles(wall[arm] / wall["simcore"]), "cpu": quartiles(cpu[arm] / cpu["simcore"])}
            for arm in rivals
        },
        "difference": {arm: float(f"{np.abs(others[arm] - exact).max() / np.abs(exact).max():.2g}") for arm in rivals},
    }


def take_turns(
    arms: dict[str, Arm], images: ImageSource, encoders: dict[str, Encoder], turns: int
) -> dict[str, dict[str, np.ndarray]]:
    """Seconds an image of each arm in each turn, [turns] of each kind."""
    taken: dict[str, list[dict[str, float]]] = {arm: [] for arm in arms}
    names = list(arms)
    for _ in range(turns):
        names.append(names.pop(0))  # what ran before leaves its mark on caches: nobody is always last
        for arm in names:
            taken[arm].append(timed(arms[arm], images, encoders[arm]))
    return {arm: {kind: np.array([t[kind] for t in all_]) for kind in all_[0]} for arm, all_ in taken.items()}


def quartiles(values: np.ndarray) -> list[float]:
    return [round(float(value), 3) for value in np.quantile(values, [0.25, 0.5, 0.75])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--share", type=float, default=1.0, help="of the files, for a trial")
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cases, load = [], round(os.getloadavg()[0], 1)
    for *case, count in CASES:
        cases.append(measure((*case, max(8, int(args.share * count))), args.turns))
        print(json.dumps(cases[-1], indent=1), flush=True)
    about = machine.describe()
    about["versions"] |= {name: machine._version(name) for name in OPTIONAL}
    result = {
        "what": (__doc__ or "").partition("\n")[0],
        "command": f"python benchmarks/embedding/peers.py --turns {args.turns}",
        "reading": "three figures are the lower quartile, the median and the upper quartile over the turns",
        "machine": about,
        "load_average": load,  # at the start: 0 on a machine that does nothing else
        "cases": cases,
    }
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
