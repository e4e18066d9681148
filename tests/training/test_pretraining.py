from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image
from safetensors import safe_open
from torch import nn

from simcore.artifacts import Checkpoint
from simcore.errors import SimcoreError, SimcoreWarning, UsageError
from simcore.images import ImageSource, open_images
from simcore.methods.simclr import SimCLR
from simcore.training import PretrainSettings, pretrain
from simcore.training.checkpoint import LAST
from simcore.training.interrupts import Stopped
from simcore.training.log import read_log

Folder = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Make a folder of random images, of sizes that differ a little."""

    def make(num: int = 9, size: int = 24, name: str = "images") -> Path:
        random = np.random.default_rng([num, size])
        place = tmp_path / name
        place.mkdir()
        for number in range(num):
            pixels = random.integers(0, 256, (size + number % 3, size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{number:03}.png")
        return place

    return make


def settings(**changes: Any) -> PretrainSettings:
    plain = {
        "epochs": 3,
        "batch_size": 8,
        "image_size": 16,
        "num_workers": 0,
        "save_every": 1,
        "log_every": 1,
        "tensorboard": False,
        "device": "cpu",
    }
    return PretrainSettings(**(plain | changes))


def train(images: ImageSource, out: Path, coreset: ImageSource | None = None, **changes: Any) -> Checkpoint:
    resume = changes.pop("resume", False)
    return pretrain(
        SimCLR(),
        images,
        coreset,
        backbone="test_resnet",
        settings=settings(**changes),
        out=out,
        resume=resume,
        quiet=True,
    )


def weights(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping


def model_of(folder: Path) -> Mapping[str, torch.Tensor]:
    state: Mapping[str, torch.Tensor] = torch.load(folder / LAST, weights_only=True)["model"]
    return state


def same(one: Mapping[str, torch.Tensor], two: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def epochs_of(out: Path) -> list[dict[str, Any]]:
    return [line for line in read_log(out) if line["event"] == "epoch"]


def test_a_run_leaves_what_the_contract_says(folder: Folder, tmp_path: Path) -> None:
    run = train(open_images(folder()), tmp_path / "run", tensorboard=True)
    names = {path.name for path in run.path.iterdir()}
    assert {"config.yaml", "log.jsonl", "last.ckpt", "backbone.safetensors"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    config = yaml.safe_load((run.path / "config.yaml").read_text())
    expected = {"backbone", "image_size", "mean", "std", "method", "method_settings", "settings", "data", "parents"}
    assert expected <= config.keys()
    assert config["method"] == "simclr"
    assert Checkpoint.load(run.path).finished


def test_the_backbone_opens_with_plain_timm(folder: Folder, tmp_path: Path) -> None:
    run = train(open_images(folder()), tmp_path / "run")
    model = timm.create_model("test_resnet", num_classes=0, checkpoint_path=str(run.weights))
    trained = model_of(run.path)
    assert all(torch.equal(value, trained[f"backbone.{name}"]) for name, value in model.state_dict().items())
    with safe_open(run.weights, "pt") as file:
        assert json.loads(file.metadata()["simcore"])["image_size"] == 16


def test_a_model_card_tells_of_data_and_settings(folder: Folder, tmp_path: Path) -> None:
    place = folder()
    run = train(open_images(place), tmp_path / "run")
    card = (run.path / "model-card.md").read_text()
    assert "# test_resnet, pretrained with simclr" in card
    for said in (str(place), "9 images", "- temperature: 0.07", "- batch_size: 8", "- epoch: 3", "fingerprint"):
        assert said in card


def test_a_resnet_opens_in_torchvision(folder: Folder, tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    chosen = settings(epochs=1)
    run = pretrain(
        SimCLR(), open_images(folder(4)), backbone="resnet18", settings=chosen, out=tmp_path / "run", quiet=True
    )
    theirs, ours = torchvision.models.resnet18(), timm.create_model("resnet18", num_classes=0)
    fitted = theirs.load_state_dict(weights(run.weights), strict=False)
    assert fitted.missing_keys == ["fc.weight", "fc.bias"]
    assert not fitted.unexpected_keys
    ours.load_state_dict(weights(run.weights))
    theirs.fc = nn.Identity()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(theirs.eval()(images), ours.eval()(images), atol=1e-5)


def test_nine_images_in_batches_of_eight_use_eight_and_say_so(folder: Folder, tmp_path: Path) -> None:
    train(open_images(folder(9)), tmp_path / "run")
    lines = epochs_of(tmp_path / "run")
    assert [(line["num_images"], line["images_left_out"]) for line in lines] == [(8, 1)] * 3
    assert [line["step"] for line in lines] == [1, 2, 3]


def test_fewer_images_than_a_batch_make_a_smaller_batch(folder: Folder, tmp_path: Path) -> None:
    train(open_images(folder(3)), tmp_path / "run", epochs=1)
    assert epochs_of(tmp_path / "run")[0]["num_images"] == 3
    with pytest.raises(SimcoreError, match="at least 2 images, but there are 1"):
        train(open_images(folder(1, name="one")), tmp_path / "other")


def test_workers_and_cache_change_nothing(folder: Folder, tmp_path: Path) -> None:
    images = open_images(folder(11))
    plain = train(images, tmp_path / "plain", cache_mb=0, epochs=2)
    cached = train(images, tmp_path / "cached", epochs=2)
    spread = train(images, tmp_path / "spread", cache_mb=0, num_workers=2, epochs=2)
    assert same(weights(plain.weights), weights(cached.weights))
    assert same(weights(plain.weights), weights(spread.weights))


def test_unreadable_images_are_left_out_and_counted(folder: Folder, tmp_path: Path) -> None:
    place = folder(10)
    (place / "004.png").write_bytes(b"no image")
    with pytest.warns(SimcoreWarning, match=r"1 unreadable images are left out of training: 004.png \(") as told:
        train(open_images(place), tmp_path / "run", cache_mb=0)
    assert len([one for one in told if "unreadable" in str(one.message)]) == 1
    # The short batch of two is passed over where only one of it can be read.
    assert [line["num_unreadable"] for line in epochs_of(tmp_path / "run")] == [1, 1, 1]
    assert all(np.isfinite(line["loss"]) for line in read_log(tmp_path / "run"))


def killed_at(step: int) -> SimCLR:
    """SimCLR in whose training step the process gets a SIGTERM, once."""

    class Killed(SimCLR):
        def build(self, backbone: nn.Module) -> Any:
            model = super().build(backbone)
            train_on = model.training_step

            def training_step(batch: Any, moment: Any) -> Any:
                if moment.step == step:
                    os.kill(os.getpid(), signal.SIGTERM)
                return train_on(batch, moment)

            model.training_step = training_step
            return model

    Killed.__module__ = SimCLR.__module__  # whose name is the method's
    return Killed()


def test_a_killed_run_ends_as_an_uninterrupted_one(folder: Folder, tmp_path: Path) -> None:
    images = open_images(folder(20))
    whole = train(images, tmp_path / "whole")

    with pytest.raises(Stopped):
        pretrain(
            killed_at(4), images, backbone="test_resnet", settings=settings(), out=tmp_path / "cut", resume=True,
            quiet=True,
        )  # fmt: skip
    assert not Checkpoint.load(tmp_path / "cut").finished
    cut = train(images, tmp_path / "cut", resume=True)
    assert same(weights(whole.weights), weights(cut.weights))
    assert same(model_of(whole.path), model_of(cut.path))
    assert [line["step"] for line in epochs_of(cut.path)] == [3, 6, 9]


def test_a_finished_run_is_left_as_it_is(folder: Folder, tmp_path: Path) -> None:
    images = open_images(folder())
    run = train(images, tmp_path / "run")
    before = {path.name: path.stat().st_mtime_ns for path in run.path.iterdir()}
    train(images, tmp_path / "run", resume=True)
    assert before == {path.name: path.stat().st_mtime_ns for path in run.path.iterdir()}


def test_a_folder_with_another_run_is_refused(folder: Folder, tmp_path: Path) -> None:
    images = open_images(folder())
    train(images, tmp_path / "run")
    with pytest.raises(SimcoreError, match="holds a run already"):
        train(images, tmp_path / "run")
    with pytest.raises(SimcoreError, match=r"settings.lr was 0.1, is 0.2"):
        train(images, tmp_path / "run", lr=0.2, resume=True)
    with pytest.raises(SimcoreError, match=r"parents.images was"):
        train(open_images(folder(10, name="more")), tmp_path / "run", resume=True)


def test_a_run_that_cannot_begin_leaves_no_folder_that_refuses_the_next(folder: Folder, tmp_path: Path) -> None:
    images = open_images(folder())
    with pytest.raises(UsageError, match="no backbone is called 'test_resnt'"):
        pretrain(SimCLR(), images, backbone="test_resnt", settings=settings(), out=tmp_path / "run", quiet=True)
    with pytest.raises(SimcoreError, match="training needs at least 2 images"):
        train(images.take([0]), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train(images, tmp_path / "run")


def test_a_folder_in_which_nothing_was_saved_can_be_begun_anew(folder: Folder, tmp_path: Path) -> None:
    images = open_images(folder())
    whole = train(images, tmp_path / "run")
    (tmp_path / "early").mkdir()
    shutil.copy(whole.path / "config.yaml", tmp_path / "early")
    with pytest.raises(SimcoreError, match=r"saved nothing yet: begin anew in it \(--resume\)"):
        train(images, tmp_path / "early", lr=0.2)
    assert train(images, tmp_path / "early", lr=0.2, resume=True).config["settings"]["lr"] == 0.2


def test_a_run_on_moved_images_goes_on_if_that_is_said(folder: Folder, tmp_path: Path) -> None:
    place, extra = folder(9), folder(5, 28, name="extra")

    def go(out: str, method: SimCLR | None = None, **options: Any) -> Checkpoint:
        images, coreset = open_images(place), open_images(extra)
        return pretrain(method or SimCLR(), images, coreset, backbone="test_resnet", settings=settings(),
                        out=tmp_path / out, quiet=True, **options)  # fmt: skip

    whole = go("whole")
    with pytest.raises(Stopped):
        go("cut", killed_at(3))
    for number, file in enumerate([*sorted(place.iterdir()), *sorted(extra.iterdir())]):
        os.utime(file, ns=(number, number))
    with pytest.raises(SimcoreError, match=r"other dates now .*add --moved if they were copied"):
        go("cut", resume=True)
    run = go("cut", resume=True, moved=True)
    assert same(weights(run.weights), weights(whole.weights))
    assert go("cut", resume=True).finished  # it is said once
    versions = {**whole.config, "versions": {"simcore": "0.0.9"}}
    (whole.path / "config.yaml").write_text(yaml.safe_dump(versions))
    assert go("whole", resume=True, moved=True).finished
    noted = Checkpoint.load(whole.path).config
    assert noted["versions"] == {"simcore": "0.0.9"}  # which trained it
    assert noted["parents"] == run.config["parents"]
    assert go("whole", resume=True).finished
    (place / "000.png").write_bytes((place / "000.png").read_bytes() + b"0")
    with pytest.raises(SimcoreError, match=r"other settings \(parents\.images was"):
        go("whole", resume=True, moved=True)


def test_a_run_that_went_wrong_before_its_first_checkpoint_may_begin_anew(folder: Folder, tmp_path: Path) -> None:
    class Spoilt(SimCLR):
        def build(self, backbone: nn.Module) -> Any:
            model = super().build(backbone)
            model.after_step = lambda moment: nn.init.constant_(model.projector[0].weight, math.nan)
            return model

    Spoilt.__module__ = SimCLR.__module__
    images, out = open_images(folder()), tmp_path / "run"
    with pytest.raises(SimcoreError, match="the weights are no numbers any more after step 1; try"):
        pretrain(Spoilt(), images, backbone="test_resnet", settings=settings(lr=0.2), out=out, quiet=True)
    assert not (out / LAST).exists()
    assert train(images, out, resume=True).finished


def test_the_seed_decides_the_weights(folder: Folder, tmp_path: Path) -> None:
    images = open_images(folder())
    one, two, other = (train(images, tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert same(weights(one.weights), weights(two.weights))
    assert not same(weights(one.weights), weights(other.weights))


def test_init_starts_from_given_weights(folder: Folder, tmp_path: Path) -> None:
    images = open_images(folder())
    first = train(images, tmp_path / "first")
    still = train(images, tmp_path / "still", init=str(first.path), lr=0.0, epochs=1)
    trained, started = weights(still.weights), weights(first.weights)
    assert all(
        torch.equal(trained[name], started[name]) for name in trained if "running" not in name and "num" not in name
    )


def test_a_coreset_shortens_the_run_where_a_reference_is_named(folder: Folder, tmp_path: Path) -> None:
    images, coreset = open_images(folder(4)), open_images(folder(5, name="pool"))
    run = train(images, tmp_path / "run", coreset, epochs=50, reference_images=1, batch_size=9)
    assert len(epochs_of(run.path)) == 100 // 5
    assert run.config["data"]["coreset"]["num_images"] == 5


def test_a_target_share_is_kept_in_every_batch(folder: Folder, tmp_path: Path) -> None:
    images, coreset = open_images(folder(4)), open_images(folder(12, name="pool"))
    seen = []

    class Watch(SimCLR):
        def build(self, backbone: nn.Module) -> Any:
            model = super().build(backbone)
            step = model.training_step

            def training_step(batch: Any, moment: Any) -> Any:
                seen.append(int(batch.is_target.sum()))
                return step(batch, moment)

            model.training_step = training_step
            return model

    Watch.__module__ = SimCLR.__module__
    chosen = settings(target_share=0.5, epochs=2)
    pretrain(Watch(), images, coreset, backbone="test_resnet", settings=chosen, out=tmp_path / "run", quiet=True)
    assert seen == [4] * 4


@pytest.mark.slow
def test_a_run_killed_at_random_resumes_to_the_same_bits(folder: Folder, tmp_path: Path) -> None:
    place = folder(24)
    subprocess.run([sys.executable, "-c", SCRIPT, str(place), str(tmp_path / "whole")], check=True)
    random, kills = np.random.default_rng(0), 0
    while not (tmp_path / "cut" / "backbone.safetensors").exists():
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(place), str(tmp_path / "cut")])
        if kills < 5:
            wait_for_log(tmp_path / "cut" / "log.jsonl", process)
            time.sleep(random.uniform(0.0, 0.4))
            process.send_signal(random.choice([signal.SIGKILL, signal.SIGTERM]))
            kills += 1
        # A SIGTERM before or after the loop itself ends the process at once, as a SIGKILL does.
        assert process.wait(timeout=120) in (0, 1, -signal.SIGKILL, -signal.SIGTERM)
    assert same(model_of(tmp_path / "whole"), model_of(tmp_path / "cut"))
    assert [line["step"] for line in epochs_of(tmp_path / "cut")] == [3 * (epoch + 1) for epoch in range(10)]


def wait_for_log(path: Path, process: subprocess.Popen[bytes]) -> None:
    before = path.stat().st_size if path.exists() else 0
    while process.poll() is None and (not path.exists() or path.stat().st_size <= before):
        time.sleep(0.01)


SCRIPT = """
import sys, torch
torch.set_num_threads(1)  # bits are promised for one number of threads
from pathlib import Path
from simcore.images import open_images
from simcore.methods.simclr import SimCLR
from simcore.training import PretrainSettings, pretrain
settings = PretrainSettings(epochs=10, batch_size=8, image_size=16, num_workers=1, save_every=1, log_every=1,
                            tensorboard=False, device="cpu", cache_mb=0)
pretrain(SimCLR(), open_images(sys.argv[1]), backbone="test_resnet", settings=settings, out=Path(sys.argv[2]),
         resume=True, quiet=True)
"""


def test_a_coreset_can_be_chosen_anew_on_the_way(folder: Folder, tmp_path: Path) -> None:
    images, pool = open_images(folder(4)), open_images(folder(12, name="pool"))
    asked: list[tuple[int, bool]] = []

    class Neighbours:
        def __call__(self, backbone: nn.Module, number: int) -> ImageSource:
            asked.append((number, backbone.training))
            assert backbone(torch.zeros(1, 3, 16, 16)).shape == (1, 96)
            return pool.take(np.arange(number, number + 5))

        def described(self, times: int) -> dict[str, int]:
            return {"neighbours": 5, "times": times}

    def run(method: SimCLR, out: str) -> Checkpoint:
        chosen = settings(sampling_times=3, epochs=7, batch_size=4)
        first = pool.take(np.arange(6))
        return pretrain(
            method, images, first, backbone="test_resnet", settings=chosen, out=tmp_path / out, resume=True, quiet=True,
            resample=Neighbours(),
        )  # fmt: skip

    whole = run(SimCLR(), "whole")
    assert asked == [(2, False), (3, False)]
    assert whole.config["sampling"] == {"neighbours": 5, "times": 3}
    lines = epochs_of(whole.path)
    assert [line["coreset"] for line in lines] == [1, 1, 2, 2, 3, 3, 3]
    assert [line["step"] for line in lines] == [3, 6, 9, 12, 15, 18, 21]
    with pytest.raises(Stopped):
        run(killed_at(10), "cut")
    assert same(weights(run(SimCLR(), "cut").weights), weights(whole.weights))


def test_choosing_anew_needs_something_to_choose_from(folder: Folder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--sampling-times"):
        train(open_images(folder()), tmp_path / "run", sampling_times=2)


def test_with_labels_a_probe_says_how_the_features_fare(folder: Folder, tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b")):
        place = tmp_path / "labelled" / name
        place.mkdir(parents=True)
        for image in range(6):
            Image.new("RGB", (20, 20), (250 * number, 40 + image, 90)).save(place / f"{image}.png")
    train(open_images(tmp_path / "labelled"), tmp_path / "run", probe_every=2, epochs=4)
    assert ["knn" in line for line in epochs_of(tmp_path / "run")] == [False, True, False, True]
    assert all(0 <= line["knn"] <= 100 for line in epochs_of(tmp_path / "run") if "knn" in line)
    unlabelled = train(open_images(folder()), tmp_path / "plain", probe_every=1, epochs=1)
    assert "knn" not in epochs_of(unlabelled.path)[0]
