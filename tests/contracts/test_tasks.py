"""What every registered evaluation task must hold; a new one is covered without a change here."""

from __future__ import annotations

import dataclasses
import json
import warnings

import numpy as np
import pytest
from PIL import Image

from simcore import registry
from simcore.artifacts import Report
from simcore.embedding import load_encoder
from simcore.errors import SimcoreError, SimcoreWarning, UsageError
from simcore.images import open_images
from simcore.settings import as_dict, build, fields_of

NAMES = registry.names("tasks")
COLOURS = {"blue": (20, 40, 220), "green": (30, 200, 40), "red": (220, 30, 40), "white": (240, 240, 240)}
# Small enough for seconds, whatever the task: settings that a task lacks are not given.
QUICK = {
    "epochs": 2,
    "steps_per_epoch": 2,
    "teacher_epochs": 1,
    "batch_size": 8,
    "k": (1,),
    "min_size": 32,
    "max_size": 32,
    "num_workers": 0,
    "device": "cpu",
}


def task_of(name, **settings):
    cls = registry.find("tasks", name)
    known = {field.name for field in fields_of(cls)}
    return build(cls, {key: value for key, value in {**QUICK, **settings}.items() if key in known})


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def encoder():
    return load_encoder("timm:resnet10@random", image_size=32, device="cpu")


def write(folder, per_class=4, seed=0):
    """One folder a class, of images in shades of its colour, and a list of them with a box and a mask each."""
    generator = np.random.default_rng(seed)
    lines = ["path,label,boxes,mask"]
    middle = np.zeros((40, 40), np.uint8)
    middle[8:32, 4:30] = 1
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(middle).save(folder / "mask.png")
    for label, colour in COLOURS.items():
        for number in range(per_class):
            shade = np.clip(np.array(colour) + generator.integers(-15, 16, (40, 40, 3)), 0, 255)
            path = folder / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(shade.astype(np.uint8)).save(path)
            lines.append(f"{label}/{number}.png,{label},4 8 30 32,mask.png")
    (folder / "all.csv").write_text("\n".join(lines) + "\n")
    return folder / "all.csv"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("tasks")
    return write(root / "train"), write(root / "test", seed=1)


@pytest.fixture
def sources(folders):
    return tuple(open_images(folder) for folder in folders)


def test_is_a_frozen_keyword_only_dataclass_whose_settings_are_explained(name):
    task = task_of(name)
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.anything = 1
    assert all(field.help for field in fields_of(type(task)))
    assert build(type(task), as_dict(task) | {f: tuple(v) for f, v in as_dict(task).items() if isinstance(v, list)})


def test_unknown_settings_are_refused(name):
    with pytest.raises(UsageError, match="no setting"):
        build(registry.find("tasks", name), {"no_such_setting": 1})


def test_leaves_a_report_with_settings_and_fingerprints(name, encoder, sources, tmp_path):
    train, test = sources
    report = task_of(name).run(encoder, train, test, out=tmp_path / "out", quiet=True)
    assert report.task == name
    assert report.metrics
    assert all(isinstance(value, float) and 0 <= value <= 100 for value in report.metrics.values())
    assert {"encoder", "train", "test"} <= set(report.parents)
    assert report.parents["encoder"] == encoder.fingerprint
    assert report.settings["seed"] == 0
    stored = Report.load(tmp_path / "out")
    assert stored.metrics == report.metrics
    assert stored.details == json.loads(json.dumps(report.details))
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_same_seed_gives_the_same_figures_whatever_the_workers(name, encoder, sources):
    train, test = sources
    with warnings.catch_warnings():
        warnings.simplefilter("error", SimcoreWarning)
        first = task_of(name, seed=3).run(encoder, train, test, quiet=True)
        again = task_of(name, seed=3, num_workers=2).run(encoder, train, test, quiet=True)
    assert first.metrics == again.metrics
    assert first.parents == again.parents


def test_leaves_the_encoder_as_it_was(name, encoder, sources):
    train, test = sources
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    modes = [module.training for module in encoder.modules()]
    task_of(name).run(encoder, train, test, quiet=True)
    assert all(value.equal(before[key]) for key, value in encoder.state_dict().items())
    assert [module.training for module in encoder.modules()] == modes


def test_unreadable_images_are_skipped_and_counted(name, encoder, tmp_path):
    lists = [write(tmp_path / part) for part in ("train", "test")]
    for path in lists:
        (path.parent / "red" / "0.png").write_bytes(b"\x89PNG cut off")
    with pytest.warns(SimcoreWarning):
        report = task_of(name).run(encoder, *map(open_images, lists), quiet=True)
    assert report.details["num_test_skipped"] == 1


def test_sources_without_labels_are_refused_in_one_line(name, encoder, sources, folders, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    Image.new("RGB", (40, 40)).save(flat / "a.png")
    train, test = sources
    for pair in ((open_images(flat), test), (train, open_images(flat))):
        with pytest.raises(SimcoreError) as refusal:
            task_of(name).run(encoder, *pair, quiet=True)
        assert "\n" not in str(refusal.value)
