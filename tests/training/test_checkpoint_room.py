"""A run that the disk has no room for ends with one line, and goes on from its last whole checkpoint."""

from __future__ import annotations

import resource

import pytest
import torch

from simcore.errors import SimcoreError
from simcore.training.checkpoint import load_state, save_state


def test_a_checkpoint_without_room_leaves_the_one_before(tmp_path):
    save_state(tmp_path, {"weights": torch.zeros(3)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(SimcoreError, match=r"last.ckpt: cannot be written \(File too large\)"):
            save_state(tmp_path, {"weights": torch.ones(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert torch.equal(load_state(tmp_path)["weights"], torch.zeros(3))
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
