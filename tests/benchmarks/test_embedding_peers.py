"""The benchmark of embedding beside its peers compares like with like."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "embedding" / "peers.py"


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    monkeypatch.syspath_prepend(str(SCRIPT.parents[1]))
    spec = importlib.util.spec_from_file_location("embedding_peers", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for name in ("throughput", "machine"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("size", [(40, 40, 32), (50, 37, 24)])
def test_all_arms_give_the_same_features_for_the_same_images(peers, size):
    width, height, side = size
    found = peers.measure((width, height, "test_resnet", side, 6), turns=2)
    rivals = set(found["times_simcore"])
    assert {"timm script", "timm script, channels last"} <= rivals
    assert set(found["images_per_second"]) == rivals | {"simcore"}
    assert all(found["difference"][arm] < 2e-3 for arm in rivals if arm.startswith("timm"))  # one level of rounding
    assert all(found["difference"][arm] < 1e-2 for arm in rivals)
    assert all(len(times[kind]) == 3 for times in found["times_simcore"].values() for kind in ("wall", "cpu"))
