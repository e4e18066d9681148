from __future__ import annotations

import numpy as np
import pytest

from simcore.artifacts.parts import PartedArray, let_go


@pytest.fixture
def joined() -> np.ndarray:
    return np.arange(60, dtype=np.float16).reshape(20, 3)


@pytest.fixture
def parted(joined) -> PartedArray:
    return PartedArray([joined[:7], joined[7:7], joined[7:8], joined[8:]])


def test_it_looks_like_the_joined_matrix(parted, joined):
    assert parted.shape == (20, 3)
    assert len(parted) == 20
    assert np.array_equal(np.asarray(parted), joined)
    assert np.array_equal(parted[5:9], joined[5:9])
    assert np.array_equal(parted[::-3], joined[::-3])


@pytest.mark.parametrize(("size", "start", "stop"), [(1, 0, None), (4, 0, None), (100, 3, 15), (5, 7, 8), (5, 9, 9)])
def test_blocks_give_each_row_once_in_order(parted, joined, size, start, stop):
    rows = [(first, block) for first, block in parted.blocks(size, start, stop)]
    assert all(0 < len(block) <= size for _, block in rows)
    assert all(np.array_equal(block, joined[first : first + len(block)]) for first, block in rows)
    seen = [row for first, block in rows for row in range(first, first + len(block))]
    assert seen == list(range(start, 20 if stop is None else stop))


def test_take_keeps_order_and_repeats(parted, joined):
    wanted = np.array([19, 0, 7, 7, 6, 8])
    assert np.array_equal(parted.take(wanted), joined[wanted])
    with pytest.raises(IndexError):
        parted.take(np.array([20]))
    with pytest.raises(IndexError):
        parted.take(np.array([-1]))


def test_parts_of_different_width_are_refused():
    with pytest.raises(ValueError, match="one width"):
        PartedArray([np.zeros((2, 3)), np.zeros((2, 4))])


def test_letting_go_of_a_map_changes_nothing_but_memory(tmp_path):
    values = np.arange(300_000, dtype=np.float32).reshape(-1, 3)
    np.save(tmp_path / "map.npy", values)
    mapped = np.load(tmp_path / "map.npy", mmap_mode="r")
    let_go(np.asarray(mapped)[1000:90_000])
    assert np.array_equal(mapped, values)
    written = np.load(tmp_path / "map.npy", mmap_mode="c")
    written[:] = 7.0
    let_go(written)
    let_go(values)
    assert (written == 7.0).all()
