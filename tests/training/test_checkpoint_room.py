"""A run that the disk has no room for ends with one line, and goes on from its last whole checkpoint."""

from __future__ import annotations

import pytest
import torch

from simcore.errors import SimcoreError
from simcore.training.checkpoint import load_state, save_state


def test_a_checkpoint_without_room_leaves_the_one_before(tmp_path, small_files):
    save_state(tmp_path, {"weights": torch.zeros(3)})
    with pytest.raises(SimcoreError, match=r"last.ckpt: cannot be written \(File too large\)"), small_files():
        save_state(tmp_path, {"weights": torch.ones(100_000)})
    assert torch.equal(load_state(tmp_path)["weights"], torch.zeros(3))
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
