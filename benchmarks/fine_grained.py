"""The main job on real images, through the command line alone.

The target X is the first 100 train images of each class of one fine-grained group of Tiny-ImageNet; the pool U is
every other train image. A retrieval model is trained by SSL on X, all images are embedded, coresets of equal size are
chosen by simcore and at random, and one backbone an arm (X, X + random, X + SimCore) is pretrained for equally many
steps. Labels are used for nothing but the figures.

    python benchmarks/fine_grained.py --data DIR --target pets
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

import machine
import tiny_imagenet

RESULTS = Path(__file__).parent / "results"


class Shell:
    """Runs simcore commands and keeps what was run, how long it took and what it said."""

    def __init__(self, data: Path, work: Path) -> None:
        self.data, self.work = data, work
        self.log: list[dict[str, Any]] = []

    def simcore(self, *words: str) -> dict[str, Any]:
        """Run one command with ``--json``; stop the benchmark if it fails."""
        command = [sys.executable, "-m", "simcore", *words, "--json"]
        shown = shlex.join(["simcore", *words]).replace(str(self.data), "DIR").replace(str(self.work), "WORK")
        print("$", shown, file=sys.stderr, flush=True)
        began = time.monotonic()
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        result: dict[str, Any] = json.loads(done.stdout)
        self.log.append({"command": shown, "seconds": round(time.monotonic() - began, 1), "result": result})
        return result


def precision(coreset: Path, labels: frozenset[int]) -> float:
    """Percent of picks whose class is one of the target's; 0 of none."""
    picked = pq.read_table(coreset, columns=["label"])["label"].to_pylist()
    return 100.0 * sum(label in labels for label in picked) / max(1, len(picked))


def base_rate(pool: Path, target: Path, labels: frozenset[int]) -> float:
    """The same share in the pool without the target's own images."""
    rows = pq.read_table(pool / "rows.parquet", columns=["uri", "label"])
    own = set(pq.read_table(target / "rows.parquet", columns=["uri"])["uri"].to_pylist())
    rest = [label for uri, label in zip(*rows.to_pydict().values(), strict=True) if uri not in own]
    return 100.0 * sum(label in labels for label in rest) / len(rest)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Go through the job once for every seed."""
    shell, work = Shell(args.data, args.work), args.work
    group = tiny_imagenet.groups(args.data)[args.target]
    target, test, labels = group.target, group.test, group.labels
    training = ["--backbone", args.backbone, "--image-size", str(args.image_size), "--batch-size", str(args.batch_size)]
    training += ["--optimizer", args.optimizer, "--lr", str(args.lr), "--num-workers", "0", "--resume", "--moved"]
    steps = ["--max-steps", str(args.steps)]

    retrieval = work / "retrieval"
    shell.simcore(
        "pretrain", "--target", target, *training, "--max-steps", str(args.retrieval_steps), "--out", str(retrieval)
    )
    shell.simcore("embed", target, "--encoder", str(retrieval), "--moved", "--out", str(work / "x"))
    shell.simcore("embed", group.pool, "--encoder", str(retrieval), "--moved", "--out", str(work / "u"))

    figures: dict[str, Any] = {
        "base_rate": base_rate(work / "u", work / "x", labels),
        "precision": {},
        "accuracy": {},
    }
    stores = ["--target", str(work / "x"), "--pool", str(work / "u"), "--budget", str(args.budget)]
    for seed in args.seeds:
        arms: dict[str, list[str]] = {"x": []}
        for selector in ("random", "simcore"):
            coreset = work / f"{selector}-seed{seed}.parquet"
            shell.simcore("select", *stores, "--selector", selector, "--seed", str(seed), "--out", str(coreset))
            figures["precision"].setdefault(selector, []).append(precision(coreset, labels))
            arms[f"x+{selector}"] = ["--coreset", str(coreset)]
        for arm, extra in arms.items():
            out = work / f"{arm}-seed{seed}"
            shell.simcore(
                "pretrain", "--target", target, *extra, *training, *steps, "--seed", str(seed), "--out", str(out)
            )
            for task in ("knn", "linear"):
                place = str(work / f"{arm}-seed{seed}-{task}")
                found = shell.simcore(
                    "evaluate", task, "--encoder", str(out), "--train", target, "--test", test, "--out", place
                )
                for name, value in found.items():
                    if isinstance(value, float):
                        figures["accuracy"].setdefault(arm, {}).setdefault(f"{task} {name}", []).append(value)
    return {"figures": figures, "commands": shell.log}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tiny_imagenet.add_flag(parser)
    parser.add_argument("--work", type=Path, default=Path("runs/fine_grained"), help="folder for everything made")
    parser.add_argument("--target", default="pets")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--backbone", default="resnet10")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--optimizer", default="adam", help="the published SGD needs larger batches than fit here")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--retrieval-steps", type=int, default=800)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--budget", type=int, default=5000)
    args = parser.parse_args()
    args.data = args.data.resolve()
    settings = {k: v for k, v in vars(args).items() if k not in ("data", "work")}
    began = time.monotonic()
    result = {
        "what": (__doc__ or "").partition("\n")[0],
        "settings": settings,
        "machine": machine.describe(),
        **run(args),
    }
    result["minutes"] = round((time.monotonic() - began) / 60, 1)
    RESULTS.mkdir(exist_ok=True)
    out = RESULTS / f"fine_grained-{args.target}.json"
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["figures"], indent=1))


if __name__ == "__main__":
    main()
