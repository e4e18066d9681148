"""Tasks end to end, from files to figures, with a random encoder on flat colours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from simcore.artifacts import Embeddings
from simcore.embedding import Embedder, load_encoder
from simcore.errors import SimcoreError, SimcoreWarning, UsageError
from simcore.images import open_images
from simcore.tasks._head import Head
from simcore.tasks._predict import load_predictor, predict
from simcore.tasks.finetune import FineTune
from simcore.tasks.knn import KNN
from simcore.tasks.linear import LinearProbe

COLOURS = [(220, 30, 40), (30, 200, 40), (20, 40, 220), (240, 240, 240)]
QUICK = {"num_workers": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def encoder():
    return load_encoder("timm:resnet10@random", image_size=32, device="cpu")


def put(path, colour, size=(32, 32)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def angles(tmp_path):
    """Four classes of one colour each; the test set lacks 180, and the train folder 135 is empty."""
    for number, name in enumerate(("0", "90", "180", "270")):
        for i in range(4):
            put(tmp_path / "train" / name / f"{i}.png", COLOURS[number])
            if name != "180":
                put(tmp_path / "test" / name / f"{i}.png", COLOURS[number])
    (tmp_path / "train" / "135").mkdir()
    return tmp_path


@pytest.mark.filterwarnings("ignore::simcore.errors.SimcoreWarning")
def test_classes_are_matched_by_name(angles, encoder):
    def evaluate():
        train, test = open_images(angles, split="train"), open_images(angles, split="test")
        return KNN(k=(1,), **QUICK).run(encoder, train, test, quiet=True)

    with pytest.warns(SimcoreWarning) as told:
        report = evaluate()
    said = [str(warning.message) for warning in told]
    assert sum("'135'" in line for line in said) == 1
    assert sum("'180'" in line for line in said) == 1
    assert report.metrics["top1_k1"] == 100.0
    assert report.details["empty_classes"] == ["135"]
    assert report.details["absent_classes"] == ["180"]
    assert report.details["num_classes"] == 4


@pytest.mark.filterwarnings("ignore::simcore.errors.SimcoreWarning")
def test_a_store_gives_what_its_images_give(angles, encoder, tmp_path):
    parts = [open_images(angles, split=split) for split in ("train", "test")]
    stores = [
        Embedder(encoder, num_workers=0, quiet=True)(part, tmp_path / f"store-{i}") for i, part in enumerate(parts)
    ]
    opened = [Embeddings.load(store.path) for store in stores]
    for task in (KNN(k=(1, 3), **QUICK), LinearProbe(epochs=3, **QUICK)):
        of_images, of_stores = task.run(encoder, *parts, quiet=True), task.run(None, *opened, quiet=True)
        assert of_images.metrics == of_stores.metrics
        assert of_images.parents == of_stores.parents


@pytest.mark.parametrize("batch_size", [1, 3, 4, 10])
def test_every_image_finds_itself_at_any_batch_size(tmp_path, encoder, batch_size):
    generator = np.random.default_rng(0)
    for i in range(10):
        pixels = Image.fromarray(generator.integers(0, 256, (32, 32, 3)).astype(np.uint8))
        for part in ("train", "test"):
            path = tmp_path / part / f"c{i:02d}" / "only.png"
            path.parent.mkdir(parents=True)
            pixels.save(path)
    with pytest.warns(SimcoreWarning, match="k = 20 clamped to 10"):
        report = KNN(k=(1, 20), batch_size=batch_size, **QUICK).run(
            encoder, open_images(tmp_path, split="train"), open_images(tmp_path, split="test"), quiet=True
        )
    assert report.metrics["top1_k1"] == 100.0


def test_features_are_kept_and_found_again(angles, encoder, tmp_path):
    with pytest.warns(SimcoreWarning, match="135"):
        train, test = open_images(angles, split="train"), open_images(angles, split="test")
    out = tmp_path / "out"
    with pytest.warns(SimcoreWarning):
        first = KNN(k=(1,), **QUICK).run(encoder, train, test, out=out, quiet=True)
    stores = sorted((out / "features").iterdir())
    assert len(stores) == 2
    stamps = [store.stat().st_mtime_ns for store in stores]
    with pytest.warns(SimcoreWarning):
        again = KNN(k=(1,), **QUICK).run(encoder, train, test, out=out, quiet=True)
    assert first == again
    assert [store.stat().st_mtime_ns for store in sorted((out / "features").iterdir())] == stamps


@pytest.fixture
def striped(tmp_path):
    """Two classes that random features tell apart badly: upright and level stripes of random phase."""
    generator = np.random.default_rng(3)
    for part, per_class in (("train", 24), ("test", 12)):
        for name in ("level", "upright"):
            for i in range(per_class):
                stripes = ((np.arange(40) + generator.integers(0, 8)) // 4 % 2 * 200 + 20).astype(np.uint8)
                field = np.tile(stripes[:, None], (1, 40)) if name == "level" else np.tile(stripes, (40, 1))
                path = tmp_path / part / name / f"{i:02d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(field).convert("RGB").save(path)
    return open_images(tmp_path, split="train"), open_images(tmp_path, split="test")


def test_a_probe_may_train_on_random_crops(striped, encoder, tmp_path):
    probe = LinearProbe(lr=(0.3, 3.0), epochs=4, batch_size=16, augment=True, **QUICK)
    report = probe.run(encoder, *striped, out=tmp_path / "out", quiet=True)
    assert report.metrics["top1"] > 60
    assert report == probe.run(encoder, *striped, quiet=True)
    plain = LinearProbe(lr=(0.3, 3.0), epochs=4, batch_size=16, **QUICK).run(encoder, *striped, quiet=True)
    assert plain.parents["head"] != report.parents["head"]


def test_augmenting_needs_images(striped, encoder):
    stores = [Embedder(encoder, num_workers=0, quiet=True)(part) for part in striped]
    with pytest.raises(UsageError, match="--augment"):
        LinearProbe(augment=True, **QUICK).run(encoder, *stores, quiet=True)


FINE = {"epochs": 6, "batch_size": 16, "lr": 0.05, **QUICK}


def test_fine_tuning_learns_what_a_frozen_encoder_does_not_know(striped, encoder, tmp_path):
    report = FineTune(**FINE).run(encoder, *striped, out=tmp_path / "out", quiet=True)
    assert report.metrics["top1"] >= 90
    assert report.details["epoch"] == 6
    assert report.details["labels_per_class"] == {"level": 24, "upright": 24}


def test_what_was_tuned_is_a_run_with_a_head(striped, encoder, tmp_path):
    out = tmp_path / "out"
    report = FineTune(**FINE).run(encoder, *striped, out=out, quiet=True)
    head, tuned = load_predictor(out, device="cpu")
    assert head.fingerprint == report.parents["head"]
    assert tuned.image_size == 32
    table = predict(head, Embedder(tuned, num_workers=0, dtype="float32", quiet=True), striped[1])
    said = [
        name == id.split("/")[-2] for name, id in zip(table["class"].to_pylist(), table["id"].to_pylist(), strict=True)
    ]
    assert 100 * np.mean(said) == pytest.approx(report.metrics["top1"])


@pytest.mark.parametrize(("ratio", "expected"), [(0.1, 2), (0.5, 12), (0.001, 1)])
def test_a_share_of_the_labels_is_counted(striped, encoder, ratio, expected):
    report = FineTune(label_ratio=ratio, **{**FINE, "epochs": 1}).run(encoder, *striped, quiet=True)
    assert report.details["labels_per_class"] == {"level": expected, "upright": expected}
    assert report.details["num_labels"] == 2 * expected


def test_the_published_draw_may_leave_a_class_out(striped, encoder):
    labels = striped[0].labels
    tasks = (FineTune(label_ratio=0.05, label_draw="plain", seed=seed, **{**FINE, "epochs": 1}) for seed in range(50))
    task = next(task for task in tasks if len(set(labels[task.labelled_rows(labels)])) == 1)
    with pytest.warns(SimcoreWarning, match="1 of 2 classes got no label"):
        report = task.run(encoder, *striped, quiet=True)
    assert report.details["num_labels"] == 2
    assert len(report.details["classes_without_label"]) == 1


@pytest.mark.parametrize("choose_on", ["split", "test"])
def test_the_best_epoch_is_kept(striped, encoder, choose_on):
    report = FineTune(choose_on=choose_on, **FINE).run(encoder, *striped, quiet=True)
    assert 1 <= report.details["epoch"] <= 6
    assert report.details["chosen_on"] == choose_on


def test_an_interrupted_tuning_goes_on(striped, encoder, tmp_path, monkeypatch):
    whole = FineTune(choose_on="test", **{**FINE, "epochs": 3}).run(
        encoder, *striped, out=tmp_path / "whole", quiet=True
    )
    out, calls = tmp_path / "out", []

    def stop(model, *args, **kwargs):
        calls.append(kwargs)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return keep(model, *args, **kwargs)

    from simcore.tasks import _supervised

    keep = _supervised.Classifier.keep_if_better
    monkeypatch.setattr(_supervised.Classifier, "keep_if_better", stop)
    task = FineTune(choose_on="test", **{**FINE, "epochs": 3})
    with pytest.raises(KeyboardInterrupt):
        task.run(encoder, *striped, out=out, quiet=True)
    assert not (out / "metrics.json").exists()
    report = task.run(encoder, *striped, out=out, quiet=True)
    assert report.metrics == whole.metrics
    assert report.parents == whole.parents


def test_fine_tuning_refuses_stores_and_foreign_networks(striped, encoder):
    train, test = striped
    with pytest.raises(UsageError, match="not stores"):
        FineTune(**QUICK).run(encoder, Embedder(encoder, num_workers=0, quiet=True)(train), test, quiet=True)
    with pytest.raises(UsageError, match="not stores"):
        FineTune(**QUICK).run(None, train, test, quiet=True)


def test_a_pretrained_run_is_not_overwritten(striped, encoder, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("method: simclr\nbackbone: resnet10\n")
    with pytest.raises(SimcoreError, match="holds another RUN"):
        FineTune(**FINE).run(encoder, *striped, out=tmp_path / "run", quiet=True)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.yaml"]


def test_a_head_names_the_classes_of_new_images(angles, encoder, tmp_path):
    with pytest.warns(SimcoreWarning, match="135"):
        train = open_images(angles, split="train")
    LinearProbe(epochs=20, **QUICK).run(encoder, train, train, out=tmp_path / "probe", quiet=True)
    for i, colour in enumerate(COLOURS):
        put(tmp_path / "new" / f"{i}.png", colour, size=(50, 40))
    (tmp_path / "new" / "9.png").write_bytes(b"no image")
    head, model = load_predictor(tmp_path / "probe", device="cpu")
    assert model.image_size == 32
    with pytest.warns(SimcoreWarning):
        table = predict(head, Embedder(model, num_workers=0, quiet=True), open_images(tmp_path / "new"))
    assert table["id"].to_pylist() == ["0.png", "1.png", "2.png", "3.png"]
    assert table["class"].to_pylist() == ["0", "90", "180", "270"]
    with pytest.raises(SimcoreError, match="trained on encoder"):
        load_predictor(tmp_path / "probe", encoder="timm:resnet10@random", image_size=64, device="cpu")


def test_heads_answer_alike_on_any_device_of_the_features(encoder):
    head = Head(weight=torch.eye(2), bias=torch.zeros(2), classes=("a", "b"))
    assert head.logits(torch.eye(2, dtype=torch.float16)).dtype == torch.float32
