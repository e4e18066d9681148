"""Which faults does the command line survive? Kills, full disks, cut files and hostile inputs, tried and counted.

Every try runs commands as users type them, each in a process that is forked from this one (so that nothing is imported
anew), and then judges what was said and what is on disk; the table says what surviving means for each fault. Where a
fault is random (the moment of a kill, the room on a disk, the place of a cut) it is drawn anew from the seed for every
try. A disk that fills up is a small tmpfs where this process may mount one, else a limit on the size of a file.
`--cases` names a folder of cases, each with an `expected.json`.

    python benchmarks/robustness/faults.py
"""

from __future__ import annotations

import os

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.extend((str(Path(__file__).parent), str(Path(__file__).parents[1])))
import _cuts as cuts
import _hostile as hostile
import _kills as kills
from _scene import Scene
from _trial import Fault, emptied

import machine
from simcore import registry
from simcore.embedding import load_encoder

RESULT = Path(__file__).parents[1] / "results" / "faults.json"


def import_all() -> None:
    """Import what the commands will, so that a try spends its time on the job."""
    load_encoder("timm:test_resnet@random", device="cpu", image_size=32)
    for package in ("selection", "methods", "datasets"):
        for name in registry.names(package):
            registry.find(package, name)
    import simcore.pipeline
    import simcore.reporting  # noqa: F401


def all_faults(scene: Scene, place: Path, args: argparse.Namespace) -> Iterator[Fault]:
    chance = np.random.default_rng(args.seed)
    yield from kills.faults(scene, emptied(place))
    yield from cuts.faults(scene, emptied(place), chance)
    yield from hostile.faults(scene, args.cases)


def tried(fault: Fault, number: int, place: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Try a fault as often as asked for, once if nothing about it is random."""
    num, began, reasons = 1 if fault.once else args.tries, time.monotonic(), []
    for turn in range(num):
        reason = fault.attempt(emptied(place), np.random.default_rng([args.seed, number, turn]))
        if reason is not None:
            reasons.append(reason.replace(str(place), "PLACE"))
    row = {"kind": fault.kind, "fault": fault.name, "tried": num, "survived": num - len(reasons)}
    row |= {"surviving": fault.surviving, "seconds": round(time.monotonic() - began, 1)}
    print(f"{row['survived']:3} of {num:3}  {fault.kind}: {fault.name}  ({row['seconds']} s)", flush=True)
    for reason in reasons:
        print(f"    {reason}", flush=True)
    return row | ({"reasons": sorted(set(reasons))} if reasons else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=10, help="of each fault that is random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="part of the names of the faults to try; writes no result")
    parser.add_argument("--cases", type=Path, help="folder of cases, each with an expected.json")
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that no disk stays mounted
    import_all()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-") as work:
        scene, place = Scene(Path(work) / "scene"), Path(work) / "try"
        faults = enumerate(all_faults(scene, place, args))
        rows = [tried(f, n, place, args) for n, f in faults if (args.only or "") in f"{f.kind}: {f.name}"]
    result = {
        "what": (__doc__ or "").partition("\n")[0],
        "command": f"python benchmarks/robustness/faults.py --tries {args.tries}"
        + (" --cases CASES" if args.cases else ""),
        "settings": {"tries": args.tries, "seed": args.seed, "mounted_disk": os.geteuid() == 0},
        "machine": machine.describe(),
        "tried": sum(row["tried"] for row in rows),
        "survived": sum(row["survived"] for row in rows),
        "minutes": round((time.monotonic() - began) / 60, 1),
        "rows": rows,
    }
    print(f"{result['survived']} of {result['tried']} survived, {result['minutes']} minutes")
    if not args.only:
        args.out.parent.mkdir(exist_ok=True)
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
