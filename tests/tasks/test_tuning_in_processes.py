"""Several processes train a backbone with batch statistics together, and come to one answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPT = Path(__file__).with_name("tuning_in_processes.py")
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three colours that overlap, so that a network's answers depend on its batch statistics."""
    generator = np.random.default_rng(0)
    for name, tint in (("a", (150, 100, 100)), ("b", (100, 150, 100)), ("c", (100, 100, 150))):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(9):
            pixels = np.clip(generator.normal(tint, 60, (32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    return tmp_path


@pytest.mark.slow
def test_all_processes_end_with_the_same_network(folder: Path) -> None:
    done = subprocess.run(
        [*LAUNCH, str(SCRIPT), str(folder / "images"), str(folder / "out")],
        capture_output=True, text=True, timeout=600, env=ENVIRONMENT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = sorted((folder / "out").glob("*-0.json"))
    assert [path.name.removesuffix("-0.json") for path in found] == [
        "badge", "coteaching", "dividemix", "finetune", "fixmatch", "openmatch",
    ]  # fmt: skip
    for first in found:
        name = first.name.removesuffix("-0.json")
        metrics, details = json.loads(first.read_text())
        assert [metrics, details] == json.loads((folder / "out" / f"{name}-1.json").read_text()), name
        assert json.loads((folder / "out" / name / "metrics.json").read_text())["metrics"] == metrics


@pytest.mark.slow
def test_one_process_speaks_for_all(folder: Path) -> None:
    words = ["evaluate", "knn", "--encoder", "timm:test_resnet@random", "--image-size", "32", "--num-workers", "0"]
    sources = ["--train", str(folder / "images"), "--test", str(folder / "images"), "--out", str(folder / "knn")]
    done = subprocess.run(
        [*LAUNCH, "-m", "simcore", *words, *sources, "--k", "1", "--json"],
        capture_output=True, text=True, timeout=300, env=ENVIRONMENT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["top1_k1"] == 100.0  # one object, not two
