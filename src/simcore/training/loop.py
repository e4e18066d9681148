"""The one training loop: every pretraining method and every trained evaluation runs through :func:`fit`."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from simcore.errors import SimcoreError
from simcore.progress import Progress
from simcore.settings import as_dict
from simcore.training._losses import LossMeter, NotANumber, SettledStep
from simcore.training._step import Stepper
from simcore.training.checkpoint import has_state, load_state, save_state
from simcore.training.devices import make_fabric
from simcore.training.gather import share_buffers
from simcore.training.health import CollapseWatch, feature_health, spread
from simcore.training.interrupts import StopRequest, raise_stopped, stop_requests
from simcore.training.log import RunLog
from simcore.training.settings import FREE_SETTINGS, FitSettings
from simcore.training.trainable import Batches, Moment, StepOutput, Trainable

ADVICE = "try a lower learning rate, gradient clipping or precision 32"
OnEpoch = Callable[[Moment], Mapping[str, float] | None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitResult:
    """How a run ended: optimizer steps and epochs done in all, and the mean loss of its last epoch."""

    steps: int
    epochs: int
    loss: float


def fit(
    model: Trainable,
    batches: Batches,
    settings: FitSettings,
    *,
    fabric: Fabric | None = None,
    out: Path | None = None,
    resume: bool = False,
    label: str = "train",
    quiet: bool = False,
    on_epoch: OnEpoch | None = None,
) -> FitResult:
    """Train ``model`` in place, to the end that ``settings`` name.

    Args:
        model: is moved to the device and stays there.
        batches: deterministic in the epoch; see :class:`Batches`.
        settings: epochs or steps, optimizer, schedule, checkpoints.
        fabric: device, precision and processes; made from the settings if not given.
        out: folder for ``last.ckpt``, ``log.jsonl`` and TensorBoard files; None writes nothing.
        resume: go on from the newest whole checkpoint in ``out``, if there is one. The weights at the end equal
            those of a run that was never interrupted (on CPU to the bit, at one number of threads).
        label: what the progress line begins with.
        quiet: no progress line.
        on_epoch: called after each epoch's hooks, on every process; the numbers it gives join the log.

    Raises:
        SimcoreError: a loss that is no number (the message names the batch, the last checkpoint stays), a folder
            that holds another run, a checkpoint that does not fit; ``Stopped`` after SIGTERM.
        KeyboardInterrupt: after SIGINT; as with SIGTERM the state has been saved.
    """
    fabric = fabric or make_fabric(settings.device, settings.precision)
    devices = [fabric.device] if fabric.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), stop_requests() as stop:
        run = _Run(Stepper(model, settings, fabric), batches, out, stop)
        run.start(resume)
        silent = quiet or not fabric.is_global_zero
        with (
            contextlib.closing(run.log),
            Progress(label, total=run.num_steps, done=run.step, unit="steps", quiet=silent) as progress,
        ):
            while run.step < run.num_steps:
                run.train_epoch(progress, on_epoch)
        return FitResult(steps=run.step, epochs=run.num_epochs, loss=run.last_epoch_loss)


class _Run:
    """One run of the loop: where it stands and what it works with."""

    def __init__(self, stepper: Stepper, batches: Batches, out: Path | None, stop: StopRequest) -> None:
        self.stepper, self.batches, self.out, self.stop = stepper, batches, out, stop
        self.settings, self.fabric, self.model = stepper.settings, stepper.fabric, stepper.model
        self.steps_per_epoch = batches.steps_per_epoch
        self.num_steps = self.settings.max_steps or self.settings.epochs * self.steps_per_epoch
        self.num_epochs = math.ceil(self.num_steps / self.steps_per_epoch)
        self.step = 0
        self.meter, self.collapse = LossMeter(self.fabric), CollapseWatch()
        self.last_epoch_loss = math.nan
        self.last_output: StepOutput | None = None

    @property
    def moment(self) -> Moment:
        epoch = self.step // self.steps_per_epoch
        return Moment(epoch, self.step, self.num_epochs, self.steps_per_epoch, self.num_steps)

    def start(self, resume: bool) -> None:
        """Restore what is there, and open the log."""
        if self.out is not None and has_state(self.out):
            if not resume:
                raise SimcoreError(f"{self.out}: holds a run already; resume it (--resume) or choose another folder")
            self._restore(self.out, load_state(self.out))
        writes = self.out if self.fabric.is_global_zero else None
        self.log = RunLog(writes, done_steps=self.step, tensorboard=self.settings.tensorboard)
        self.saved_at = time.monotonic()

    def _restore(self, out: Path, state: Mapping[str, Any]) -> None:
        changed = _changed(state["settings"], as_dict(self.settings))
        if changed:
            raise SimcoreError(f"{out}: cannot be resumed with other settings: {', '.join(changed)}")
        if state["steps_per_epoch"] != self.steps_per_epoch:
            raise SimcoreError(
                f"{out}: cannot be resumed: an epoch had {state['steps_per_epoch']} steps and now has "
                f"{self.steps_per_epoch}; the data or the number of processes changed"
            )
        try:
            self.stepper.restore(state)
        except (RuntimeError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:300]
            raise SimcoreError(f"{out}: its checkpoint is of another model ({reason})") from error
        self.step, self.last_epoch_loss = state["step"], state["last_epoch_loss"]
        self.meter.total, self.meter.count = state["losses"]

    def save(self) -> None:
        """Write the checkpoint, once the loss of the last step is known to be a number."""
        self._note(self._checked(None))
        if not self.model.is_sound():
            raise SimcoreError(f"the weights are no numbers any more after step {self.step}{self._kept()}; {ADVICE}")
        self.saved_at = time.monotonic()
        if self.out is not None and self.fabric.is_global_zero:
            run = {
                "step": self.step,
                "steps_per_epoch": self.steps_per_epoch,
                "losses": (self.meter.total, self.meter.count),
                "last_epoch_loss": self.last_epoch_loss,
                "settings": as_dict(self.settings),
            }
            save_state(self.out, run | self.stepper.state())

    def train_epoch(self, progress: Progress, on_epoch: OnEpoch | None) -> None:
        """Run the rest of the present epoch, and what follows it."""
        began, began_at = self.moment, time.monotonic()
        last = min((began.epoch + 1) * self.steps_per_epoch, self.num_steps)
        self.model.train()
        for batch in self.batches(began.epoch, began.step_in_epoch):
            if batch is not None:
                self._note(self._checked(batch))
            self.step += 1
            progress.advance(note=self._progress_note(began.epoch))
            if self.step == last:
                break
            self._between_steps()
        if self.step != last:
            raise RuntimeError(f"epoch {began.epoch + 1} ended after step {self.step}, not {last}")
        self._end_epoch(began._replace(step=last - 1), began_at, on_epoch)

    def _progress_note(self, epoch: int) -> str:
        loss = self.meter.mean if self.meter.count else self.last_epoch_loss
        return f"epoch {epoch + 1}/{self.num_epochs}" + (f", loss {loss:.4f}" if math.isfinite(loss) else "")

    def _checked(self, batch: Any | None) -> SettledStep | None:
        """Step on a batch, or with None only wait for the step under way; stop the run at a loss that is no number."""
        try:
            if batch is None:
                return self.meter.settle()
            moment = self.moment
            self.last_output = self.stepper.step(batch, moment)
            return self.meter.push(moment, self.last_output, self.stepper.lr, bool(self.stop))
        except NotANumber as error:
            describe = getattr(self.batches, "describe", None)
            items = f" ({describe(error.moment.epoch, error.moment.step_in_epoch)})" if describe else ""
            raise SimcoreError(f"{error}{items}{self._kept()}; {ADVICE}") from error

    def _kept(self) -> str:
        return "; the last checkpoint is kept" if self.out is not None and has_state(self.out) else ""

    def _note(self, settled: SettledStep | None) -> None:
        if settled is not None and (settled.moment.step + 1) % self.settings.log_every == 0:
            self.log.write("step", settled.moment.epoch + 1, settled.moment.step + 1, settled.values())

    def _between_steps(self) -> None:
        if self.meter.asked_to_stop or (self.stop and self.fabric.world_size == 1):
            self.save()
            kept = f"saved in {self.out}, go on with --resume" if self.out is not None else "nothing was saved"
            raise_stopped(self.stop, f"stopped after step {self.step} of {self.num_steps}; {kept}")
        if time.monotonic() - self.saved_at >= 60.0 * self.settings.save_minutes:
            self.save()

    def _end_epoch(self, moment: Moment, began_at: float, on_epoch: OnEpoch | None) -> None:
        self._note(self._checked(None))
        share_buffers(self.model)  # batch statistics are each process's own, and what follows must be the same for all
        self.model.after_epoch(moment)
        self.last_epoch_loss = self.meter.mean
        self.meter.end_epoch()
        values = {"loss": self.last_epoch_loss, "lr": self.stepper.lr, **self._epoch_values(moment)}
        values["seconds"] = round(time.monotonic() - began_at, 3)
        if on_epoch is not None:
            values |= on_epoch(moment) or {}
        self.log.write("epoch", moment.epoch + 1, self.step, values)
        if self.step == self.num_steps or (moment.epoch + 1) % self.settings.save_every == 0:
            self.save()
        self._between_steps()  # also after the last step: what follows the run must not begin

    def _epoch_values(self, moment: Moment) -> dict[str, Any]:
        counts = getattr(self.batches, "counts", None)
        values: dict[str, Any] = dict(counts(moment.epoch)) if counts else {}
        health = self._health()
        self.collapse.look(health, moment.epoch + 1)
        return values | health

    def _health(self) -> dict[str, float]:
        """Look at what the last step found; a single row tells nothing."""
        output = self.last_output
        health: dict[str, float] = {}
        if output is not None and output.features is not None and len(output.features) > 1:
            health |= feature_health(output.features)
        if output is not None and output.projections is not None and len(output.projections) > 1:
            health["projection_std"] = spread(output.projections)
        return health


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    names = sorted((before.keys() | now.keys()) - FREE_SETTINGS)
    return [f"{name} was {before.get(name)}, is {now.get(name)}" for name in names if before.get(name) != now.get(name)]
