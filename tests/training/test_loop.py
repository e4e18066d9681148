from __future__ import annotations

import dataclasses
import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import Tensor, nn

from simcore.errors import SimcoreError, SimcoreWarning
from simcore.training import Ema, FitSettings, Moment, StepOutput, Trainable, fit
from simcore.training.checkpoint import LAST, PREVIOUS
from simcore.training.interrupts import Stopped
from simcore.training.log import read_log


class Toy(Trainable):
    """A regression with everything that must survive: dropout, batch statistics, an EMA copy and a queue."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))
        self.teacher = Ema(self.net)
        self.register_buffer("queue", torch.zeros(16))
        self.seen: list[int] = []

    def training_step(self, batch: Tensor, moment: Moment) -> StepOutput:
        self.seen.append(moment.step)
        out = self.net(batch)
        loss = (out[:, 0] - batch.sum(1) - self.queue.mean()).square().mean()
        return StepOutput(loss=loss, logs={"mean": out.mean().detach()}, features=out.expand(-1, 2))

    def after_step(self, moment: Moment) -> None:
        self.teacher.update(self.net, 0.9)
        self.queue[moment.step % 16] = self.net[0].weight.detach().mean()


@dataclasses.dataclass
class ToyBatches:
    steps_per_epoch: int = 5
    poison: int | None = None
    stop_at: int | None = None

    def __call__(self, epoch: int, skip_steps: int) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(epoch)
        data = torch.randn(self.steps_per_epoch, 6, 4, generator=generator)
        for number in range(skip_steps, self.steps_per_epoch):
            step = epoch * self.steps_per_epoch + number
            if step == self.stop_at:
                os.kill(os.getpid(), signal.SIGTERM)
            yield data[number] * (float("nan") if step == self.poison else 1.0)

    def describe(self, epoch: int, step_in_epoch: int) -> str:
        return f"images e{epoch}s{step_in_epoch}"

    def counts(self, epoch: int) -> dict[str, int]:
        return {"num_images": 30, "images_left_out": 2}


def settings(**changes: Any) -> FitSettings:
    plain = {"epochs": 4, "lr": 0.05, "save_every": 1, "log_every": 2, "tensorboard": False, "device": "cpu"}
    return FitSettings(**(plain | changes))


def states_equal(one: nn.Module, two: nn.Module) -> bool:
    left, right = one.state_dict(), two.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "lars"])
def test_resume_within_an_epoch_equals_an_uninterrupted_run_to_the_bit(tmp_path: Path, optimizer: str) -> None:
    chosen = settings(optimizer=optimizer, warmup_epochs=1, weight_decay_end=0.01)
    whole = Toy()
    expected = fit(whole, ToyBatches(), chosen, quiet=True)
    for stop_at in (2, 7, 11, 14):
        with pytest.raises(Stopped, match="resume"):
            fit(Toy(), ToyBatches(stop_at=stop_at), chosen, out=tmp_path, resume=True, quiet=True)
    resumed = Toy()
    result = fit(resumed, ToyBatches(), chosen, out=tmp_path, resume=True, quiet=True)
    assert states_equal(whole, resumed)
    assert result == expected
    assert resumed.seen == list(range(15, 20))
    steps = [line["step"] for line in read_log(tmp_path) if line["event"] == "step"]
    assert steps == list(range(2, 21, 2))
    assert [line["step"] for line in read_log(tmp_path) if line["event"] == "epoch"] == [5, 10, 15, 20]


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    fit(Toy(), ToyBatches(), settings(), out=tmp_path, quiet=True)
    again = Toy()
    assert fit(again, ToyBatches(), settings(), out=tmp_path, resume=True, quiet=True).steps == 20
    assert again.seen == []


def test_an_epoch_line_says_what_was_used_and_how_the_features_are(tmp_path: Path) -> None:
    fit(Toy(), ToyBatches(), settings(), out=tmp_path, quiet=True, on_epoch=lambda moment: {"accuracy": moment.epoch})
    line = [line for line in read_log(tmp_path) if line["event"] == "epoch"][-1]
    assert line["num_images"] == 30
    assert line["images_left_out"] == 2
    assert line["accuracy"] == 3
    assert {"loss", "lr", "seconds", "feature_std", "rankme"} <= line.keys()


def test_a_loss_that_is_no_number_stops_with_the_batch_named_and_the_checkpoint_kept(tmp_path: Path) -> None:
    with pytest.raises(SimcoreError, match=r"nan at epoch 2, step 8 \(images e1s2\); the last checkpoint is kept"):
        fit(Toy(), ToyBatches(poison=7), settings(), out=tmp_path, quiet=True)
    state = torch.load(tmp_path / LAST, weights_only=True)
    assert state["step"] == 5
    assert all(torch.isfinite(value).all() for value in state["model"].values())


def test_ctrl_c_saves_and_interrupts(tmp_path: Path) -> None:
    class Interrupted(ToyBatches):
        def __call__(self, epoch: int, skip_steps: int) -> Iterator[Any]:
            for number, batch in enumerate(super().__call__(epoch, skip_steps)):
                if number == 3:
                    signal.raise_signal(signal.SIGINT)
                yield batch

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(Toy(), Interrupted(), settings(), out=tmp_path, quiet=True)
    assert torch.load(tmp_path / LAST, weights_only=True)["step"] == 4
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "gone"])
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(tmp_path: Path, damage: str) -> None:
    whole = Toy()
    fit(whole, ToyBatches(), settings(), quiet=True)
    with pytest.raises(Stopped):
        fit(Toy(), ToyBatches(stop_at=12), settings(), out=tmp_path, quiet=True)
    damage_file(tmp_path / LAST, damage)
    resumed = Toy()
    if damage == "gone":
        fit(resumed, ToyBatches(), settings(), out=tmp_path, resume=True, quiet=True)
    else:
        with pytest.warns(SimcoreWarning, match="previous.ckpt"):
            fit(resumed, ToyBatches(), settings(), out=tmp_path, resume=True, quiet=True)
    assert resumed.seen[0] == 10
    assert states_equal(whole, resumed)


def damage_file(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
        return
    if how == "flip":
        content[len(content) // 2] ^= 0xFF
    path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "flip": content}[how])


def test_with_both_checkpoints_damaged_the_run_cannot_be_resumed(tmp_path: Path) -> None:
    fit(Toy(), ToyBatches(), settings(), out=tmp_path, quiet=True)
    for name in (LAST, PREVIOUS):
        damage_file(tmp_path / name, "cut")
    with pytest.raises(SimcoreError, match=r"last.ckpt: damaged.*previous.ckpt: damaged"):
        fit(Toy(), ToyBatches(), settings(), out=tmp_path, resume=True, quiet=True)


def test_resume_refuses_other_settings_data_or_model(tmp_path: Path) -> None:
    fit(Toy(), ToyBatches(), settings(), out=tmp_path, quiet=True)
    with pytest.raises(SimcoreError, match=r"lr was 0.05, is 0.1"):
        fit(Toy(), ToyBatches(), settings(lr=0.1), out=tmp_path, resume=True, quiet=True)
    with pytest.raises(SimcoreError, match="had 5 steps and now has 6"):
        fit(Toy(), ToyBatches(6), settings(), out=tmp_path, resume=True, quiet=True)
    other = Toy()
    other.net[0] = nn.Linear(4, 9)
    with pytest.raises(SimcoreError, match="another model"):
        fit(other, ToyBatches(), settings(), out=tmp_path, resume=True, quiet=True)
    with pytest.raises(SimcoreError, match="holds a run already"):
        fit(Toy(), ToyBatches(), settings(), out=tmp_path, quiet=True)
    fit(Toy(), ToyBatches(), settings(log_every=7), out=tmp_path, resume=True, quiet=True)


def test_max_steps_gives_exactly_that_many_updates() -> None:
    for wanted in (3, 5, 12):
        model = Toy()
        assert fit(model, ToyBatches(), settings(max_steps=wanted), quiet=True).steps == wanted
        assert model.seen == list(range(wanted))


def test_a_batch_of_which_nothing_could_be_read_is_counted_and_passed_over() -> None:
    class Gaps(ToyBatches):
        def __call__(self, epoch: int, skip_steps: int) -> Iterator[Any]:
            for number, batch in enumerate(super().__call__(epoch, skip_steps), start=skip_steps):
                yield None if number == 1 else batch

    model = Toy()
    assert fit(model, Gaps(), settings(epochs=2), quiet=True).steps == 10
    assert model.seen == [0, 2, 3, 4, 5, 7, 8, 9]


def test_the_callers_random_state_is_left_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    model = Toy()  # seeds the default generator itself
    torch.manual_seed(7)
    fit(model, ToyBatches(), settings(epochs=1), quiet=True)
    assert torch.equal(torch.rand(3), expected)


def test_collapsed_features_are_said_in_plain_words() -> None:
    class Collapsed(Toy):
        def training_step(self, batch: Tensor, moment: Moment) -> StepOutput:
            output = super().training_step(batch, moment)
            return StepOutput(loss=output.loss, features=torch.ones(6, 8))

    with pytest.warns(SimcoreWarning, match="the features have collapsed"):
        fit(Collapsed(), ToyBatches(), settings(epochs=1), quiet=True)


def test_a_projector_of_dead_units_is_said_though_the_features_are_sound() -> None:
    class Dead(Toy):
        def training_step(self, batch: Tensor, moment: Moment) -> StepOutput:
            output = super().training_step(batch, moment)
            return StepOutput(loss=output.loss, features=torch.eye(6), projections=torch.ones(6, 4))

    with pytest.warns(SimcoreWarning, match="the projections have collapsed"):
        fit(Dead(), ToyBatches(), settings(epochs=1), quiet=True)


def test_a_stop_asked_for_in_the_last_step_is_obeyed(tmp_path: Path) -> None:
    class Killed(Toy):
        def training_step(self, batch: Tensor, moment: Moment) -> StepOutput:
            if moment.step + 1 == moment.num_steps:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().training_step(batch, moment)

    with pytest.raises(Stopped, match="stopped after step 5 of 5"):
        fit(Killed(), ToyBatches(), settings(epochs=1), out=tmp_path, quiet=True)
    # What was asked for is there: going on trains nothing more.
    assert fit(Toy(), ToyBatches(), settings(epochs=1), out=tmp_path, resume=True, quiet=True).steps == 5


def test_log_lines_are_plain_json(tmp_path: Path) -> None:
    fit(Toy(), ToyBatches(), settings(log_every=1), out=tmp_path, quiet=True)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    first = lines[0]
    assert first["event"] == "step"
    assert first["epoch"] == first["step"] == 1
    assert np.isfinite([first["loss"], first["lr"], first["mean"]]).all()


def test_tensorboard_files_are_written_where_asked_for(tmp_path: Path) -> None:
    fit(Toy(), ToyBatches(), settings(tensorboard=True, epochs=1), out=tmp_path, quiet=True)
    assert list(tmp_path.glob("events.out.tfevents.*"))


def scaled() -> Fabric:
    """AMP with a gradient scaler, which Fabric itself would not set up on a CPU."""
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3)
    return Fabric(accelerator="cpu", devices=1, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])


def test_the_scaler_is_restored() -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole, resumed = Toy(), Toy()
        fit(whole, ToyBatches(), settings(), fabric=scaled(), quiet=True)
        with pytest.raises(Stopped):
            fit(Toy(), ToyBatches(stop_at=7), settings(), fabric=scaled(), out=Path(folder), quiet=True)
        fabric = scaled()
        state = torch.load(Path(folder) / LAST, weights_only=True)["scaler"]
        assert state["scale"] > 1024
        fit(resumed, ToyBatches(), settings(), fabric=fabric, out=Path(folder), resume=True, quiet=True)
        assert states_equal(whole, resumed)


def test_gradients_are_clipped_after_unscaling() -> None:
    model = Toy()
    before = [parameter.detach().clone() for parameter in model.net.parameters()]
    chosen = settings(max_steps=1, clip_grad=1e-3, momentum=0.0, weight_decay=0.0, schedule="constant", lr=1.0)
    fit(model, ToyBatches(), chosen, fabric=scaled(), quiet=True)
    moved = torch.cat([(a - b).flatten() for a, b in zip(model.net.parameters(), before, strict=True)]).norm()
    assert moved.item() == pytest.approx(1e-3, rel=1e-3)
