"""How long does `simcore --help` take, and `import simcore`, beside an empty Python and `import torch`?

Each is a process of its own; they take turns. `seconds` are of wall time, the least and the median over the rounds;
`cpu_seconds` are of the process's own work, which other load on the machine lengthens less.

    python benchmarks/import_time.py
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import machine

RESULT = Path(__file__).parent / "results" / "import_time.json"
ARMS = {
    "python": [sys.executable, "-c", ""],
    "import simcore": [sys.executable, "-c", "import simcore"],
    "simcore --help": [sys.executable, "-m", "simcore", "--help"],
    "simcore select --help": [sys.executable, "-m", "simcore", "select", "--help"],
    "simcore pretrain --help": [sys.executable, "-m", "simcore", "pretrain", "--help"],
    "import torch": [sys.executable, "-c", "import torch"],
}


def measure(command: list[str]) -> tuple[float, float]:
    """Wall and processor seconds of one process."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def summary(times: list[tuple[float, float]]) -> dict[str, Any]:
    walls, cpus = zip(*times, strict=True)
    return {
        "seconds": {"least": round(min(walls), 3), "median": round(statistics.median(walls), 3)},
        "cpu_seconds": {"least": round(min(cpus), 3), "median": round(statistics.median(cpus), 3)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ARMS}
    for turn in range(args.rounds + 1):
        for name, command in ARMS.items():
            one = measure(command)
            if turn:  # the first round warms the caches
                times[name].append(one)
    found = {name: summary(values) for name, values in times.items()}
    result = {"command": "python benchmarks/import_time.py", "rounds": args.rounds, "machine": machine.describe()}
    args.out.write_text(json.dumps({**result, "arms": found}, indent=2) + "\n")
    for name, values in found.items():
        print(f"{name:<26} {values['seconds']['median']:.3f} s ({values['cpu_seconds']['median']:.3f} s of processor)")


if __name__ == "__main__":
    main()
