"""The whole way on a CUDA device, beside what the CPU gives; the rest of the suite computes on the CPU."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from simcore import pipeline, registry
from simcore.artifacts import Embeddings
from simcore.embedding import Embedder, load_encoder
from simcore.images import open_images
from simcore.selection import _products
from simcore.tasks.active import ActiveLearning
from simcore.tasks.detection import Detection
from simcore.tasks.finetune import FineTune
from simcore.tasks.knn import KNN
from simcore.tasks.linear import LinearProbe
from simcore.tasks.opensemi import OpenSemi
from simcore.tasks.segmentation import Segmentation
from simcore.tasks.semisup import SemiSupervised
from simcore.tasks.weblysup import WeblySupervised
from simcore.training.log import read_log

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

DEVICE = "cuda"
COLOURS = {"blue": (20, 40, 220), "green": (30, 200, 40), "red": (220, 30, 40), "white": (240, 240, 240)}
NARROW = {
    "byol": {"hidden_dim": 32},
    "dino": {"out_dim": 64, "hidden_dim": 32, "num_local_crops": 2},
    "mae": {"decoder_depth": 1, "decoder_dim": 32, "decoder_heads": 2},
    "moco": {"queue_size": 64},
    "simsiam": {"hidden_dim": 32, "projection_dim": 32, "predictor_dim": 16},
    "swav": {"hidden_dim": 32, "projection_dim": 16, "num_prototypes": 8, "num_local_crops": 2},
}
RUN = {"epochs": 2, "batch_size": 16, "image_size": 32, "num_workers": 0, "tensorboard": False, "log_every": 1}
TASK = {"device": DEVICE, "num_workers": 0, "batch_size": 8}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Images a class in ``train``, ``test`` and ``foreign``; a class is a colour with some noise."""
    root = tmp_path_factory.mktemp("colours")
    for seed, (part, names) in enumerate(
        {"train": "blue green red", "test": "blue green red", "foreign": "white"}.items()
    ):
        generator = np.random.default_rng(seed)
        for name in names.split():
            (root / part / name).mkdir(parents=True)
            for number in range(16):
                shade = np.array(COLOURS[name]) + generator.integers(-15, 16, (40, 36 + number, 3))
                Image.fromarray(np.clip(shade, 0, 255).astype(np.uint8)).save(root / part / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def sources(folders):
    return open_images(folders / "train"), open_images(folders / "test")


@pytest.fixture
def encoder():
    return load_encoder("timm:resnet10@random", image_size=32, device=DEVICE)


def losses(run):
    return [line["loss"] for line in read_log(run) if line["event"] == "step"]


def trained(name, folders, out, **changes):
    backbone = "vit_tiny_patch16_224" if name == "mae" else "resnet10"
    method = registry.find("methods", name)(**NARROW.get(name, {}))
    pipeline.pretrain(method, folders / "train", backbone=backbone, out=out, quiet=True, **{**RUN, **changes})
    return losses(out)


@pytest.mark.parametrize("name", registry.names("methods"))
def test_every_method_takes_the_steps_that_the_cpu_takes(name, folders, tmp_path):
    """The views are drawn alike everywhere, so the first losses differ by rounding alone."""
    on_gpu = trained(name, folders, tmp_path / "gpu", device=DEVICE, precision="32", lr=1e-4)
    on_cpu = trained(name, folders, tmp_path / "cpu", device="cpu", precision="32", lr=1e-4)
    assert len(on_gpu) == len(on_cpu) == 6
    assert on_gpu[:3] == pytest.approx(on_cpu[:3], rel=0.02)


@pytest.mark.parametrize("precision", ["auto", "16-mixed", "bf16-mixed"])
def test_low_precision_trains_and_a_run_goes_on(precision, folders, tmp_path):
    low = trained("simclr", folders, tmp_path / "low", device=DEVICE, precision=precision)
    assert np.isfinite(low).all()
    assert low[0] == pytest.approx(
        trained("simclr", folders, tmp_path / "high", device=DEVICE, precision="32")[0], rel=0.05
    )
    trained("simclr", folders, tmp_path / "part", device=DEVICE, precision=precision, max_steps=3)
    state = torch.load(tmp_path / "part" / "last.ckpt", weights_only=True, map_location="cpu")
    assert state["step"] == 3


def test_a_compiled_backbone_trains_and_loads_without_a_trace_of_it(folders, tmp_path):
    assert np.isfinite(trained("simclr", folders, tmp_path / "run", device=DEVICE, compile=True)).all()
    assert load_encoder(tmp_path / "run", device="cpu").dim == 512


def test_features_are_those_of_the_cpu(sources, tmp_path):
    rows = {}
    for device in ("cpu", DEVICE):
        encoder = load_encoder("timm:resnet10@random", image_size=32, device=device)
        store = Embedder(encoder, batch_size=5, num_workers=2, dtype="float32", quiet=True)(
            sources[0], tmp_path / device
        )
        rows[device] = np.asarray(store.features)
    assert rows[DEVICE] == pytest.approx(rows["cpu"], rel=1e-2, abs=1e-3)


@pytest.mark.parametrize(
    "task",
    [
        KNN(k=(5,), device=DEVICE),
        LinearProbe(device=DEVICE),
        FineTune(epochs=2, lr=0.05, **TASK),
        ActiveLearning(epochs=2, rounds=2, budget="6", acquisition="badge", **TASK),
        *(
            SemiSupervised(method=m, epochs=2, steps_per_epoch=3, label_ratio=0.5, **TASK)
            for m in ("mixmatch", "remixmatch", "fixmatch", "flexmatch")
        ),
        OpenSemi(method="openmatch", epochs=2, steps_per_epoch=3, start_epoch=1, label_ratio=0.5, **TASK),
        OpenSemi(method="self_training", epochs=2, steps_per_epoch=3, teacher_epochs=2, label_ratio=0.5, **TASK),
        WeblySupervised(method="coteaching", label_noise=0.25, epochs=2, **TASK),
        WeblySupervised(method="dividemix", label_noise=0.25, epochs=2, warm_up_epochs=1, **TASK),
    ],
    ids=lambda task: getattr(task, "method", type(task).__name__),
)
def test_every_task_on_images(task, encoder, sources, folders, tmp_path):
    more = {"unlabelled": open_images(folders / "foreign")} if isinstance(task, OpenSemi) else {}
    report = pipeline.evaluate(task, encoder, train=sources[0], test=sources[1], out=tmp_path, quiet=True, **more)
    assert 0 <= next(iter(report.metrics.values())) <= 100


def test_detection(encoder, tmp_path):
    pytest.importorskip("faster_coco_eval")
    sources = [open_images(f"coco:{boxed(tmp_path / side)}") for side in ("train", "test")]
    task = Detection(min_size=32, max_size=48, epochs=2, anchor_size=8, **{**TASK, "batch_size": 4})
    report = pipeline.evaluate(task, encoder, train=sources[0], test=sources[1], out=tmp_path / "out", quiet=True)
    assert 0 <= report.metrics["mean_ap"] <= 100


def boxed(folder):
    folder.mkdir()
    for number in range(6):
        pixels = np.zeros((40, 40, 3), np.uint8)
        pixels[10:30, 8:28] = 230
        Image.fromarray(pixels).save(folder / f"{number}.png")
    images = [{"id": n, "file_name": f"{n}.png", "width": 40, "height": 40} for n in range(6)]
    box = {"category_id": 1, "bbox": [8, 10, 20, 20], "area": 400, "iscrowd": 0}
    annotations = [{"id": n + 1, "image_id": n, **box} for n in range(6)]
    place = folder / "boxes.json"
    categories = [{"id": 1, "name": "square"}]
    place.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return place


def test_segmentation(encoder, tmp_path):
    pytest.importorskip("segmentation_models_pytorch")
    for side in ("train", "test"):
        for kind in ("images", "masks"):
            (tmp_path / side / kind).mkdir(parents=True)
        for number in range(6):
            mask = np.zeros((40, 44), np.uint8)
            mask[8:30, 10:32] = 1
            Image.fromarray(mask * 200).convert("RGB").save(tmp_path / side / "images" / f"{number}.png")
            Image.fromarray(mask).save(tmp_path / side / "masks" / f"{number}.png")
    sources = [open_images(f"masks:{tmp_path / side}") for side in ("train", "test")]
    task = Segmentation(crop_size=32, epochs=2, lr=0.05, **{**TASK, "batch_size": 4})
    report = pipeline.evaluate(task, encoder, train=sources[0], test=sources[1], out=tmp_path / "out", quiet=True)
    assert 0 <= report.metrics["miou"] <= 100


@pytest.mark.parametrize("name", ["simcore", "density_ratio", "facility_location", "k_center", "top"])
def test_picks_are_those_of_the_cpu(name, monkeypatch):
    random = np.random.default_rng(0)
    target, pool = (Embeddings.from_array(random.normal(size=(num, 64)).astype(np.float32)) for num in (60, 3000))
    chosen = {}
    for device in (None, DEVICE):
        monkeypatch.setattr(_products, "_gpu_for", lambda _, device=device: device)
        chosen[device] = registry.find("selection", name)().select(target, pool, budget=200)
    assert np.array_equal(chosen[None].indices, chosen[DEVICE].indices)
    assert np.array_equal(chosen[None].similarities, chosen[DEVICE].similarities)
