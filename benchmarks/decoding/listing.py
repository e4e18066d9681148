"""How long a huge source takes to open, the first time and again: a folder of many files, and many shards.

Files and shards are made in a temporary folder (the images hold a few bytes: listing reads no pixels). Each opening is
a process of its own with a cache folder of its own; the time is that of `open_images` alone, with the memory the
process reached. The files are warm in the system's cache.

    python benchmarks/decoding/listing.py --files 1000000 --shards 1000 --samples 100
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import machine

RESULT = Path(__file__).parents[1] / "results" / "listing.json"
FILES_A_FOLDER = 1000
OPEN = """
import json, pathlib, sys, time
from simcore.images import open_images
began = time.perf_counter()
source = open_images(sys.argv[1])
seconds = time.perf_counter() - began
# Not getrusage: what it tells begins with the memory of the process that started this one.
status = pathlib.Path("/proc/self/status").read_text().splitlines()
peak = int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024
print(json.dumps({"seconds": round(seconds, 2), "images": len(source), "peak_mb": round(peak)}))
"""


def make_folder(root: Path, num_files: int) -> None:
    for first in range(0, num_files, FILES_A_FOLDER):
        folder = root / f"class_{first // FILES_A_FOLDER:05d}"
        folder.mkdir(parents=True)
        for number in range(first, min(first + FILES_A_FOLDER, num_files)):
            (folder / f"image_{number:08d}.jpg").touch()


def make_shards(root: Path, num_shards: int, num_samples: int) -> None:
    root.mkdir(parents=True)
    for shard in range(num_shards):
        with tarfile.open(root / f"shard-{shard:06d}.tar", "w") as archive:
            for sample in range(num_samples):
                for extension, data in (("jpg", b"\xff\xd8\xff" + bytes(500)), ("cls", b"%d" % (sample % 10))):
                    info = tarfile.TarInfo(f"{shard:06d}{sample:06d}.{extension}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))


def opened(where: Path, cache: Path) -> dict[str, Any]:
    told = subprocess.run(
        [sys.executable, "-c", OPEN, where],
        check=True,
        capture_output=True,
        env={**os.environ, "SIMCORE_CACHE": str(cache)},
    )
    return json.loads(told.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--shards", type=int, default=100)
    parser.add_argument("--samples", type=int, default=100, help="a shard")
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    found: dict[str, Any] = {"machine": machine.describe(), "command": f"python {' '.join(sys.argv)}"}
    with tempfile.TemporaryDirectory() as scratch:
        make_folder(Path(scratch) / "folder", args.files)
        make_shards(Path(scratch) / "shards", args.shards, args.samples)
        time.sleep(3)  # what has just changed is not kept
        for kind in ("folder", "shards"):
            times = [opened(Path(scratch) / kind, Path(scratch) / "cache") for _ in range(2)]
            found[kind] = {"first": times[0], "again": times[1]}
            print(json.dumps({kind: found[kind]}))
    args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
