"""Several processes train and measure dense tasks together."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("faster_coco_eval", reason="needs the extra [detection]")
pytest.importorskip("segmentation_models_pytorch", reason="needs the extra [segmentation]")

SCRIPT = Path(__file__).with_name("dense_in_processes.py")


def write(folder: Path) -> list[str]:
    """Squares on noise; 8 images, so that two processes have equal shares."""
    generator = np.random.default_rng(0)
    lines = ["path,label,boxes"]
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
    for number in range(8):
        pixels = generator.integers(0, 60, (32, 32, 3)).astype(np.uint8)
        mask = np.zeros((32, 32), np.uint8)
        left, top = generator.integers(0, 16, 2)
        pixels[top : top + 16, left : left + 16], mask[top : top + 16, left : left + 16] = 220, 1
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
        lines.append(f"images/{number}.png,square,{left} {top} {left + 16} {top + 16}")
    (folder / "boxes.csv").write_text("\n".join(lines) + "\n")
    return [str(folder / "boxes.csv"), f"masks:{folder}"]


@pytest.mark.slow
def test_two_processes_measure_what_one_does(tmp_path: Path) -> None:
    sources = write(tmp_path)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(SCRIPT)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *sources, str(tmp_path / "two")],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    runpy.run_path(str(SCRIPT))["run"](*sources, tmp_path / "one")

    def told(where: str, task: str) -> dict:
        return json.loads((tmp_path / where / task / "metrics.json").read_text())

    # With a rate of 0 and a batch's statistics of each process its own, only what is counted is alike.
    one, two = told("one", "segmentation"), told("two", "segmentation")
    assert one["details"]["num_pixels"] == two["details"]["num_pixels"] == 8 * 32 * 32
    assert sorted(path.name for path in (tmp_path / "two" / "segmentation" / "masks").iterdir()) == [
        f"{row:06d}.png" for row in range(8)
    ]
    # The detector has no batch statistics: two processes train as one with the doubled batch.
    one, two = told("one", "detection"), told("two", "detection")
    assert two["details"]["num_test_boxes"] == 8
    for name, value in one["metrics"].items():
        assert two["metrics"][name] == pytest.approx(value, abs=2.0), name
    found = [json.loads((tmp_path / w / "detection" / "predictions.json").read_text()) for w in ("one", "two")]
    assert {entry["image_id"] for entry in found[0]} == {entry["image_id"] for entry in found[1]} == set(range(1, 9))
