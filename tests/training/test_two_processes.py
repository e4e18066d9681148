from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parent / "two_processes.py"


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_doubled_batch(tmp_path: Path) -> None:
    done = torchrun(str(SCRIPT), str(tmp_path / "two"))
    assert done.returncode == 0, done.stderr[-3000:]
    two = torch.load(tmp_path / "two" / "results.pt", weights_only=True)
    one = runpy.run_path(str(SCRIPT))["results"](tmp_path / "one")
    assert one.keys() == two.keys()
    for method in one:
        assert len(one[method]["losses"]) == 4
        for name, value in one[method].items():
            assert torch.allclose(value.float(), two[method][name].float(), atol=1e-5), (method, name)
