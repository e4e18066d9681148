"""The settings of the one training loop, and those that pretraining adds. Reading them loads no torch."""

from __future__ import annotations

import dataclasses

from simcore.errors import UsageError
from simcore.settings import fields_of, setting

_OF_THE_MACHINE = {"device", "num_workers", "cache_mb", "compile"}
_OF_THE_RECORD = {"save_every", "save_minutes", "log_every", "probe_every", "tensorboard"}
# What does not decide the course of a run, so that a resumed run may have it otherwise.
FREE_SETTINGS = frozenset(_OF_THE_MACHINE | _OF_THE_RECORD)

OPTIMIZERS = ("sgd", "adam", "adamw", "lars")
SCHEDULES = ("cosine", "cosine-per-step", "step", "poly", "constant")
PRECISIONS = ("auto", "32", "16-mixed", "bf16-mixed")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitSettings:
    """How a model is fitted; the defaults are the published ones of supervised training (facts of ``train_sup``)."""

    epochs: int = setting(100, "passes over the data")
    max_steps: int | None = setting(None, "train for exactly this many optimizer steps instead of --epochs")
    lr: float = setting(0.1, "learning rate at its highest")
    optimizer: str = setting("sgd", "update rule", choices=OPTIMIZERS)
    momentum: float = setting(0.9, "momentum of SGD (Nesterov) and LARS")
    betas: tuple[float, ...] = setting((0.9, 0.999), "the two decay rates of Adam and AdamW")
    weight_decay: float = setting(1e-4, "weight decay; AdamW and LARS spare biases and 1-D parameters")
    weight_decay_end: float | None = setting(None, "weight decay at the end, reached along a cosine")
    schedule: str = setting("cosine", "course of the learning rate", choices=SCHEDULES)
    lr_decay_rate: float = setting(0.1, "factor of a step; the cosine ends at lr times its cube")
    lr_decay_epochs: tuple[int, ...] = setting((60, 80), "epochs after which the step schedule decays")
    warmup_epochs: int = setting(0, "epochs over which the learning rate rises linearly from 0.1 lr")
    clip_grad: float = setting(0.0, "largest gradient norm, 0 for no clipping")
    clip_by: str = setting("all", "what the clipped norm is taken over", choices=("all", "parameter"))
    precision: str = setting("auto", "number format; auto: bf16 or fp16 AMP on CUDA, else 32", choices=PRECISIONS)
    device: str = setting("auto", "auto, cpu, cuda, cuda:N or mps")
    seed: int = setting(0, "seed of every random draw")
    save_every: int = setting(100, "epochs between checkpoints")
    save_minutes: float = setting(10.0, "minutes after which a checkpoint is written within an epoch")
    log_every: int = setting(10, "steps between lines of log.jsonl")
    tensorboard: bool = setting(True, "write TensorBoard event files")

    def __post_init__(self) -> None:
        _at_least(self, 1, "epochs", "max_steps", "save_every", "log_every")
        _at_least(self, 0, "lr", "momentum", "weight_decay", "weight_decay_end", "warmup_epochs", "clip_grad", "seed")
        for field in fields_of(type(self)):
            value = getattr(self, field.name)
            if field.choices and value is not None and value not in field.choices:
                raise UsageError(f"{field.flag} is {value!r}, but must be one of {', '.join(field.choices)}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise UsageError(f"--betas are {self.betas}, but must be two numbers from 0 to below 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainSettings(FitSettings):
    """How a backbone is pretrained; the defaults are the published recipe (run_selfsup of the reference)."""

    epochs: int = setting(5000, "passes over the images")
    batch_size: int = setting(512, "images a step, over all processes")
    clip_by: str = setting("parameter", "what the clipped norm is taken over", choices=("all", "parameter"))
    lr_decay_epochs: tuple[int, ...] = setting((200, 300), "epochs after which the step schedule decays")
    image_size: int = setting(224, "side of a training view in pixels")
    reference_images: int | None = setting(
        None, "rescale epochs as published: at most 100 passes over this many images (published: 1281167)"
    )
    target_share: float | None = setting(
        None, "share of target images in every batch; none: plain concatenation, as published"
    )
    sampling_times: int = setting(1, "coresets one after the other, each chosen with the encoder as it is by then")
    probe_every: int = setting(50, "epochs between kNN probes on the target, if it has labels; 0: none")
    init: str | None = setting(None, "RUN or weights file to start from; none: fresh weights from the seed")
    num_workers: int = setting(-1, "processes that decode images; -1: as many as there are spare cores")
    cache_mb: int = setting(1024, "decoded images are kept in memory when they fit into this many MB; 0: never")
    channels_last: bool | None = setting(None, "channels-last memory layout; none: on CPU and CUDA")
    compile: bool = setting(False, "compile the backbone with torch.compile")
    sync_batchnorm: bool = setting(True, "batch statistics over all GPUs of a run")

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(self, 2, "batch_size")
        _at_least(self, 1, "image_size", "reference_images")
        _at_least(self, 1, "sampling_times")
        if self.max_steps is None and self.sampling_times > self.epochs:
            raise UsageError(f"--sampling-times is {self.sampling_times}, but the run has only {self.epochs} epochs")
        _at_least(self, 0, "cache_mb", "probe_every")
        if self.target_share is not None and not 0 < self.target_share < 1:
            raise UsageError(f"--target-share is {self.target_share}, but must lie between 0 and 1")


def _at_least(settings: FitSettings, low: int, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if value is not None and not value >= low:  # `not >=` also refuses NaN
            raise UsageError(f"--{name.replace('_', '-')} is {value}, but must be at least {low}")
