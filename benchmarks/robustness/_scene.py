"""A small job on made images, for faults to befall: sources, stores, a coreset, a run, and the commands between."""

from __future__ import annotations

import io
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _trial import content, simcore
from PIL import Image

ENCODER = ["--encoder", "timm:test_resnet@random", "--image-size", "32", "--num-workers", "0", "--device", "cpu"]
TRAINING = [
    *("--backbone", "test_resnet", "--image-size", "32", "--batch-size", "16", "--epochs", "6", "--save-every", "1"),
    *("--num-workers", "0", "--device", "cpu", "--no-tensorboard", "--resume"),
]
NUM_POOL, NUM_TARGET = 320, 24


@dataclass(frozen=True)
class Job:
    """A command, where it leaves its result, and what of that must come out the same to the byte."""

    name: str
    argv: list[str]
    out: str  # below the folder of the try
    only: str = "*"
    whole_or_absent: bool = True  # its result has no unfinished state of its own

    def command(self, place: Path) -> list[str]:
        return [*self.argv, "--out", str(place / self.out)]

    def content(self, place: Path) -> str:
        return content(place / self.out, self.only)


class Scene:
    """All inputs below one folder, made from a seed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.pool, self.target = root / "pool", root / "target"
        for folder, num in ((self.pool, NUM_POOL), (self.target, NUM_TARGET)):
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(num):
                (folder / f"{number:04d}.jpg").write_bytes(jpeg(number if folder is self.pool else 10_000 + number))
        self.tar, self.archive = root / "shard.tar", root / "food11.zip"
        pack_tar(self.tar, {f"{number:04d}.jpg": jpeg(number) for number in range(20)})
        parts = ("training", "validation", "evaluation")
        names = [f"{part}/{kind}_{number}.jpg" for part in parts for kind in range(11) for number in range(3)]
        with zipfile.ZipFile(self.archive, "w") as archive:
            for number, name in enumerate(names):
                archive.writestr(f"food11/{name}", jpeg(number))
        self.stores = {"x": root / "x", "u": root / "u"}
        for name, source in (("x", self.target), ("u", self.pool)):
            self.need("embed", source, *ENCODER, "--out", self.stores[name])
        self.coreset = root / "coreset.parquet"
        self.need(*self.jobs()["select"].argv, "--out", self.coreset)

    def need(self, *argv: str | Path) -> None:
        if fault := simcore(argv).done():
            raise SystemExit(f"simcore {' '.join(map(str, argv))}: {fault}")

    def jobs(self) -> dict[str, Job]:
        stores = ["--target", str(self.stores["x"]), "--pool", str(self.stores["u"])]
        coreset = str(self.root / "coreset.parquet")
        pretrain = ["pretrain", "--target", str(self.target), "--coreset", coreset, *TRAINING]
        jobs = [
            Job("embed", ["embed", str(self.pool), *ENCODER, "--batch-size", "16"], "store", whole_or_absent=False),
            Job("select", ["select", *stores, "--num-clusters", "10", "--budget", "64"], "coreset.parquet"),
            Job("pretrain", pretrain, "run", only="*.safetensors", whole_or_absent=False),
            Job("export", ["export", coreset, "--format", "wds"], "exported"),
            Job("prepare", ["prepare", "food11", "--archive", str(self.archive)], "prepared"),
        ]
        return {job.name: job for job in jobs}


def jpeg(seed: int, side: int = 40) -> bytes:
    """A smooth picture."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(data, "JPEG", quality=90)
    return data.getvalue()


def pack_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def pack_table(path: Path, first: int, num: int) -> None:
    """Write images as Hugging Face does, in row groups of four."""
    images = [{"bytes": jpeg(number), "path": f"{number}.jpg"} for number in range(first, first + num)]
    pq.write_table(pa.table({"image": images, "label": [0] * num}), path, row_group_size=4)


def ids(store: Path, table: str = "rows.parquet") -> list[str]:
    return list(pq.read_table(store / table, columns=["id"])["id"].to_pylist())
