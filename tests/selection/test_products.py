from __future__ import annotations

import numpy as np
import pytest

import simcore.selection._products as module
from simcore.selection import DensityRatio, SimCore
from simcore.selection._products import products_with


def normal(num, dim, seed):
    return np.random.default_rng(seed).normal(size=(num, dim)).astype(np.float32)


@pytest.mark.parametrize("device", [None, "cpu"])
def test_lays_products_out_either_way(device):
    fixed, tile = normal(5, 8, 0), normal(11, 8, 1)
    with products_with(fixed, 11, device=device) as multiply:
        np.testing.assert_allclose(multiply(tile), fixed @ tile.T, rtol=1e-5, atol=1e-6)
    with products_with(fixed, 11, by_tile_row=True, device=device) as multiply:
        np.testing.assert_allclose(multiply(tile), tile @ fixed.T, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("selector", [SimCore(num_clusters=7), DensityRatio(num_background=200)])
def test_the_engine_of_the_products_does_not_show_in_the_picks(selector, monkeypatch):
    target, pool = normal(30, 48, 0), normal(3000, 48, 1)
    with_numpy = selector.select(target, pool, budget=300)
    monkeypatch.setattr(module, "_gpu_for", lambda _: "cpu")
    with_torch = selector.select(target, pool, budget=300)
    assert np.array_equal(with_numpy.indices, with_torch.indices)
    assert np.array_equal(with_numpy.similarities, with_torch.similarities)
    assert with_numpy.objective == with_torch.objective


def test_leaves_torchs_precision_as_it_was():
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with products_with(normal(2, 3, 0), 4, device="cpu"):
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.gpu
def test_a_gpu_gives_the_same_picks(monkeypatch):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    target, pool = normal(50, 256, 0), normal(50_000, 256, 1)
    on_cpu = SimCore(num_clusters=20).select(target, pool, budget=2000)
    monkeypatch.setattr(module, "_gpu_for", lambda _: "cuda")
    on_gpu = SimCore(num_clusters=20).select(target, pool, budget=2000)
    assert np.array_equal(on_cpu.indices, on_gpu.indices)
    assert np.array_equal(on_cpu.similarities, on_gpu.similarities)
