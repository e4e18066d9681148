from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from simcore.artifacts import Report
from simcore.cli import main
from simcore.errors import UsageError
from simcore.tasks._attributes import run_attributes
from simcore.tasks.knn import KNN


def test_each_attribute_is_evaluated_by_itself(store, tmp_path):
    rows = [[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]
    family = store(rows, ["a", "a", "b", "b"]), store(rows, ["a", "a", "b", "b"])
    maker = store(rows, ["x", "x", "y", "y"]), store(rows, ["x", "y", "y", "y"])
    task = KNN(k=(2,), device="cpu")
    report = run_attributes(task, None, {"family": family, "maker": maker}, out=tmp_path)
    assert report.metrics["family/top1_k2"] == 100.0
    assert report.metrics["maker/top1_k2"] == 75.0
    assert report.metrics["mean/top1_k2"] == 87.5
    assert report.parents["maker/test"] == maker[1].fingerprint
    assert Report.load(tmp_path).metrics == report.metrics
    assert Report.load(tmp_path / "maker").metrics == task.run(None, *maker).metrics


def test_no_attribute_is_no_evaluation():
    with pytest.raises(UsageError):
        run_attributes(KNN(), None, {})


def test_an_attribute_cannot_be_called_as_the_mean_is(store):
    rows = store([[1.0, 0.0], [0.0, 1.0]], ["a", "b"])
    with pytest.raises(UsageError, match="called 'mean'"):
        run_attributes(KNN(k=(1,)), None, {"mean": (rows, rows)})


COLOURS = {"red": (220, 30, 40), "rose": (240, 150, 160), "blue": (20, 40, 220), "sky": (140, 170, 250)}
HUES = {"red": "warm", "rose": "warm", "blue": "cold", "sky": "cold"}


@pytest.fixture
def lists(tmp_path):
    """Make a prepared set: train.csv and test.csv with the columns label, hue and depth."""
    generator = np.random.default_rng(0)
    for split, num in (("train", 4), ("test", 2)):
        lines = ["path,label,hue,depth"]
        for name, colour in COLOURS.items():
            for number in range(num):
                pixels = np.clip(np.array(colour) + generator.integers(-9, 10, (20, 20, 3)), 0, 255).astype(np.uint8)
                path = f"{split}-{name}-{number}.png"
                Image.fromarray(pixels).save(tmp_path / path)
                lines.append(f"{path},{name},{HUES[name]},{'pale' if name in ('rose', 'sky') else 'deep'}")
        (tmp_path / f"{split}.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "dataset.json").write_text("{}")
    return tmp_path


@pytest.fixture
def tables(lists):
    """Make the same as Parquet in the Hugging Face layout."""
    for split in ("train", "test"):
        rows = [line.split(",") for line in (lists / f"{split}.csv").read_text().splitlines()[1:]]
        images = [{"bytes": (lists / row[0]).read_bytes(), "path": row[0]} for row in rows]
        columns = {name: [row[at] for row in rows] for at, name in enumerate(("label", "hue", "depth"), 1)}
        pq.write_table(pa.table({"image": images, **columns}), lists / f"{split}.parquet")
    return lists


def arguments(task, train, test, out, *more):
    argv = ["evaluate", task, "--encoder", "timm:test_resnet@random", "--image-size", "16", "--train", str(train)]
    return [*argv, "--test", str(test), "--out", str(out), "--num-workers", "0", "--device", "cpu", "--quiet", *more]


@pytest.mark.parametrize("task", ["linear", "knn"])
@pytest.mark.parametrize("kind", ["folder", "csv", "parquet"])
def test_several_label_columns_from_the_command_line(task, kind, tables, tmp_path, capsys):
    places = [tables, tables] if kind == "folder" else [tables / f"{split}.{kind}" for split in ("train", "test")]
    more = ["--epochs", "2"] if task == "linear" else ["--k", "1"]
    argv = arguments(task, *places, tmp_path / "out", *more, "--attributes", "hue", "depth", "label")
    assert main([*argv, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["attributes"]) == ["hue", "depth", "label", "mean"]
    metric = "top1" if task == "linear" else "top1_k1"
    single = [found["attributes"][name][metric] for name in ("hue", "depth", "label")]
    assert found["attributes"]["mean"][metric] == pytest.approx(np.mean(single))
    assert Report.load(tmp_path / "out").metrics[f"hue/{metric}"] == single[0]
    assert Report.load(tmp_path / "out").details["hue"]["num_classes"] == 2
    assert Report.load(tmp_path / "out").details["label"]["num_classes"] == 4
    assert (tmp_path / "out" / "hue" / "metrics.json").is_file()
    assert len(list((tmp_path / "out" / "features").iterdir())) == 2  # embedded once
    assert [row.split()[0] for row in found["table"][1:]] == ["hue", "depth", "label", "mean"]
    alone = arguments(task, *(f"{place}#label=hue" for place in places), tmp_path / "alone", *more, "--json")
    assert main(alone) == 0
    assert json.loads(capsys.readouterr().out)[metric] == single[0]


def test_a_column_that_is_not_there_is_named(tables, tmp_path, capsys):
    for place in (tables, tables / "train.csv", tables / "train.parquet"):
        assert main(arguments("knn", place, tables, tmp_path / "out", "--attributes", "shape")) == 1
        said = capsys.readouterr().err
        assert "no column 'shape'" in said
        assert "hue" in said


def test_a_folder_of_images_has_no_columns(tables, tmp_path, capsys):
    folder = tmp_path / "red"
    folder.mkdir()
    (tables / "train-red-0.png").rename(folder / "a.png")
    assert main(arguments("knn", folder, folder, tmp_path / "out", "--attributes", "hue")) == 1
    assert "no column 'hue'" in capsys.readouterr().err


def test_a_task_that_tunes_takes_attributes_too(tables, tmp_path, capsys):
    more = ["--epochs", "1", "--batch-size", "8", "--attributes", "hue", "depth"]
    assert main(arguments("finetune", tables, tables, tmp_path / "out", *more)) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("mean")
    assert (tmp_path / "out" / "depth" / "head.safetensors").is_file()
