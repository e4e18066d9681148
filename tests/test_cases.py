"""The public fault reports, from their own inputs through the command line, with the values that each states.

The kinds behind them, and further variants of each, are tested where their code is. Where the inputs' maker is not at
hand, these tests are skipped.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from simcore.artifacts import Embeddings
from simcore.cli import main
from simcore.images import open_images
from simcore.selection.facility_location import FacilityLocation

MAKER = Path(__file__).parents[2] / "shared" / "cases" / "make_cases.py"
pytestmark = pytest.mark.shared_data
TINY = ("--encoder", "timm:test_resnet@random", "--image-size", "32", "--device", "cpu", "--quiet")


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    if not MAKER.is_file():
        pytest.skip(f"the maker of the cases is not at {MAKER}")
    place = tmp_path_factory.mktemp("cases")
    subprocess.run([sys.executable, MAKER, place, "--set", "handed"], check=True, capture_output=True)
    return place


@pytest.fixture
def case(cases):
    """Give the folder of a case and the values that it states."""
    return lambda name: (cases / name, json.loads((cases / name / "expected.json").read_text())["values"])


def only(folder, tmp_path):
    """Link a case's inputs, without what is expected of them."""
    place = tmp_path / "input"
    place.mkdir()
    for path in folder.iterdir():
        if path.name != "expected.json":
            (place / path.name).symlink_to(path)
    return place


def inspected(source, capsys):
    assert main(["inspect", str(source), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def embedded(source, out, *more):
    assert main(["embed", str(source), "--out", str(out), *TINY, "--num-workers", "0", *more]) == 0
    return Embeddings.load(out)


def cosines(rows):
    """Cosines of all pairs, float64."""
    vectors = np.asarray(rows.features).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors @ vectors.T


@pytest.mark.parametrize("num_workers", ["0", "2"])
def test_h01_unreadable_and_misnamed_files(case, tmp_path, capsys, num_workers):
    folder, values = case("H01")
    folder = only(folder, tmp_path)
    told = inspected(folder, capsys)
    assert (told["n_ok"], told["n_unreadable"]) == (values["n_ok"], values["n_unreadable"])
    rows = embedded(folder, tmp_path / "out", "--num-workers", num_workers)
    assert rows.table["id"].to_pylist() == values["ok"]
    assert main(["embed", str(folder), "--out", str(tmp_path / "strict"), *TINY, "--strict"]) == 1
    assert not (tmp_path / "strict" / "rows.parquet").exists()
    assert main(["inspect", str(folder), "--strict"]) == 1


def test_h02_sixteen_bit(case, tmp_path):
    folder, values = case("H02")
    rows = embedded(only(folder, tmp_path), tmp_path / "out")
    names = rows.table["id"].to_pylist()
    assert cosines(rows)[names.index("g16.png"), names.index("g8_reference.png")] >= 0.999
    source = open_images(folder / "g16_twelve_bit_data.png")
    assert source.decode(0).pixels.max() in (values["twelve_bit_max_level"] - 1, values["twelve_bit_max_level"])


def test_h03_orientation(case, tmp_path):
    folder, values = case("H03")
    rows = embedded(only(folder, tmp_path), tmp_path / "out")
    assert len(rows) == values["n_ok"]
    assert cosines(rows).min() >= 0.99


def test_h04_extreme_shapes(case, tmp_path, capsys, peak_growth):
    folder, values = case("H04")
    folder = only(folder, tmp_path)
    with peak_growth() as grown:
        told = inspected(folder, capsys)
        embedded(folder, tmp_path / "out")
    assert told["n_ok"] + told["n_refused"] == values["n_files"]
    assert grown[0] < values["max_rss_growth_mb"]


def test_h05_a_card_copied_by_a_mac(case, tmp_path, capsys):
    folder, values = case("H05")
    told = inspected(only(folder, tmp_path), capsys)
    assert (told["n_ok"], told["n_unreadable"], told["n_hidden_skipped"]) == (5, 0, values["n_hidden_skipped"])
    rows = embedded(tmp_path / "input", tmp_path / "out")
    again = embedded(tmp_path / "input", tmp_path / "again")
    assert rows.table["id"].to_pylist() == again.table["id"].to_pylist()
    assert len(rows) == values["n_ok"]


def test_h07_dots_in_keys(case, tmp_path, capsys):
    folder, values = case("H07")
    rows = embedded(folder / "shard-000000.tar", tmp_path / "out")
    keys = [name.removeprefix("shard-000000.tar/").removesuffix(".png") for name in rows.table["id"].to_pylist()]
    labels = [int(rows.classes[label]) if rows.classes else label for label in rows.labels.tolist()]
    assert dict(zip(keys, labels, strict=True)) == values["labels"]


def test_h08_cut_shards(case, tmp_path, capsys):
    folder, values = case("H08")
    folder = only(folder, tmp_path)
    told = inspected(folder, capsys)
    assert told["n_ok"] == values["n_ok"]
    assert sorted(name.rpartition("/")[2] for name, _ in open_images(folder).notes.incomplete) == sorted(
        values["incomplete_shards"]
    )
    assert len(embedded(folder, tmp_path / "out")) == values["n_ok"]
    assert main(["embed", str(folder), "--out", str(tmp_path / "strict"), *TINY, "--strict"]) == 1


@pytest.mark.parametrize("name", ["mixed.parquet", "large_binary.parquet"])
def test_h09_tables(case, tmp_path, name):
    folder, values = case("H09")
    rows = embedded(folder / name, tmp_path / "out")
    assert len(rows) == values[name]["n_ok"]
    labels = [int(rows.classes[label]) if rows.classes else label for label in rows.labels.tolist()]
    assert labels == values[name]["labels"]


@pytest.mark.parametrize("kind", ["folder", "one_shard"])
def test_h10_rows_and_their_order(case, tmp_path, kind):
    folder, values = case("H10")
    rows = embedded(folder / kind, tmp_path / "out", "--num-workers", "2")
    assert [name.rpartition("/")[2] for name in rows.table["id"].to_pylist()] == values["ids"]


@pytest.mark.slow
def test_h13_facility_location_without_a_square_matrix(case, peak_growth):
    folder, values = case("H13")
    target, pool = (Embeddings.from_array(np.load(folder / f"{side}.npy")) for side in ("target", "pool"))
    with peak_growth() as grown:
        chosen = FacilityLocation().select(target, pool, budget=values["budget"])
    assert len(set(chosen.indices.tolist())) == values["budget"]
    assert grown[0] < values["max_rss_mb"]
