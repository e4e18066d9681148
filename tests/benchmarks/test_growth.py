"""The benchmark of size: its fits, its plot, and what it makes to measure on."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "scale"))
import _loglog
import _made

from simcore.artifacts import Embeddings
from simcore.images import open_images

SIZES = (10_000, 100_000, 1_000_000)


def test_a_power_law_is_found_again():
    slope, intercept = _loglog.power_law(SIZES, [3e-4 * size**0.9 for size in SIZES])
    assert slope == pytest.approx(0.9)
    assert 10**intercept == pytest.approx(3e-4)


def test_a_fixed_and_a_growing_part_are_found_again_and_are_never_negative():
    assert _loglog.fixed_and_each(SIZES, [2 + 5e-6 * size for size in SIZES]) == pytest.approx((2, 5e-6))
    fixed, each = _loglog.fixed_and_each(SIZES, [1e-9 * size**2 for size in SIZES])
    assert fixed >= 0
    assert each > 0


def test_points_and_lines_stand_where_their_logarithms_say():
    line = _loglog.Series("a <b>", (10**5, 10**7), (1, 100), (0.0, 1e-5))
    panel = _loglog.Panel("seconds", [line], limit=10**9)
    assert (panel.size_decades, panel.cost_decades) == ((5, 9), (0, 4))
    assert panel.place(10**7, 100) == (_loglog.PANEL_WIDTH / 2, _loglog.PANEL_HEIGHT / 2)
    root = ET.fromstring(_loglog.draw("Costs", [panel]))
    name = "{http://www.w3.org/2000/svg}"
    solid, broken = (
        [tuple(map(float, point.split(","))) for point in found.get("points").split()]
        for found in root.iter(f"{name}polyline")
    )
    assert solid[0] == (0, _loglog.PANEL_HEIGHT)
    assert solid[-1] == broken[0] == (_loglog.PANEL_WIDTH / 2, _loglog.PANEL_HEIGHT / 2)
    assert broken[-1] == (_loglog.PANEL_WIDTH, 0)
    assert "a <b>" in {text.text for text in root.iter(f"{name}text")}


def test_made_images_are_all_there_once_and_made_shards_are_kept(tmp_path):
    images = open_images(_made.make_images(tmp_path / "images", 2_000))
    assert len(set(images.table["id"].to_pylist())) == len(images) == 2_000
    assert images.decode(1_999).pixels.shape == (_made.SIDE, _made.SIDE, 3)
    before = (tmp_path / "images" / "00000.tar").stat().st_mtime_ns
    assert len(open_images(_made.make_images(tmp_path / "images", 1_000))) == 1_000
    assert (tmp_path / "images" / "00000.tar").stat().st_mtime_ns == before


def test_made_features_are_a_store_with_a_name_for_each_row(tmp_path):
    target, pool = _made.make_features(tmp_path, 1_500)
    features = Embeddings.load(pool)
    assert features.features.shape == (1_500, _made.DIM)
    assert np.load(target).shape == (_made.NUM_TARGET, _made.DIM)
    assert features.table["id"][1_234].as_py() == "00000.tar/000001234.jpg"
    assert features.table["uri"][1_234].as_py() == "tar://000001234.jpg::/data/pool/00000.tar"
    assert np.isfinite(np.asarray(features.features[:], np.float32)).all()
