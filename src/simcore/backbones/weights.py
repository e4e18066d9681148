"""Load weights by exact names and shapes; what was missing or left over is told, nothing loads in silence."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from simcore.backbones.files import read_weights, tensor_groups
from simcore.errors import SimcoreError

# What training code wraps a backbone in. A prefix is any row of up to four of these.
WRAPPERS = (
    "module.",
    "model.",
    "backbone.",
    "encoder.",
    "encoder_q.",
    "base_encoder.",
    "online_network.",
    "online_encoder.",
    "student.",
    "teacher.",
    "teacher_backbone.",
    "trunk.",
    "visual.",
    "net.",
    "_orig_mod.",
)
MAX_WRAPPERS = 4
# Of two copies that fit equally well, the averaged one is meant to be used (DINO's teacher, an EMA).
PREFERRED = ("teacher", "ema")
COUNTER = "num_batches_tracked"
NUM_LISTED = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What became of the weights.

    Attributes:
        source: file, or ``state dict``.
        group, prefix: where in the file the weights were, and what stood before each name.
        num_loaded, num_tensors: tensors taken, and tensors of the model.
        missing: names of the model that the file lacks.
        mismatched: what the file has in another shape, in words.
        left_over: names in the file that the model has no place for (heads, decoders).
    """

    source: str
    group: str
    prefix: str
    num_loaded: int
    num_tensors: int
    missing: tuple[str, ...]
    mismatched: tuple[str, ...]
    left_over: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every tensor came, batch counters aside (old checkpoints have none, and evaluation needs none)."""
        return not self.mismatched and all(name.endswith(COUNTER) for name in self.missing)

    @property
    def share(self) -> float:
        """Part of the model's tensors that came, 0…1."""
        return self.num_loaded / self.num_tensors

    def describe(self) -> str:
        """Say it in one line."""
        told = f"{self.source}: {self.num_loaded} of {self.num_tensors} tensors loaded"
        for word, names in (("missing", self.missing), ("other shape", self.mismatched), ("left over", self.left_over)):
            if names:
                told += f"; {len(names)} {word} ({_some(names)})"
        return told


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Match:
    """How one reading of a file fits a model: the tensors that fit, and a report of the rest."""

    tensors: Mapping[str, Tensor]
    report: LoadReport
    foreign: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """Whether the file holds this very architecture, heads aside."""
        return self.report.complete and not self.foreign


def load_weights(
    model: nn.Module,
    weights: str | os.PathLike[str] | Mapping[str, Any],
    *,
    partial: bool = False,
    source: str = "state dict",
) -> LoadReport:
    """Copy weights into ``model`` by name, after the wrapper prefixes (``module.``, ``encoder_q.`` …) are stripped.

    Args:
        model: a backbone without head.
        weights: a file (safetensors or torch checkpoint), or tensors by name, nested or not.
        partial: take what fits and report the rest, where otherwise anything short of all is an error.
        source: what to call tensors that come from no file.

    Tensors that belong to no part of the model (``fc.``, projectors, decoders) are left over and reported.
    Raises ``SimcoreError`` with the counts where nothing fits, something is missing, has another shape or
    belongs to a larger network of the kind, or where a weight is NaN or infinite.
    """
    if isinstance(weights, Mapping):
        content = weights
    else:
        source, content = os.fspath(weights), read_weights(weights).content
    match = best_match(model.state_dict(), content, source=source)
    _refuse_misfit(match, partial)
    _refuse_broken(match)
    model.load_state_dict(dict(match.tensors), strict=False)
    return match.report


def best_match(wanted: Mapping[str, Tensor], content: Mapping[str, Any], *, source: str) -> Match:
    """Find the group and the prefix of a checkpoint under which most tensors fit ``wanted``."""
    readings = [
        _fit(wanted, tensors, source=source, group=group, prefix=prefix)
        for group, tensors in tensor_groups(content)
        for prefix in _prefixes(tensors)
    ]
    if not readings:
        raise SimcoreError(f"{source}: holds no tensors")
    return max(readings, key=_rank)


def _rank(match: Match) -> tuple[int, int, int]:
    path = f"{match.report.group}.{match.report.prefix}"
    return match.report.num_loaded, sum(word in path for word in PREFERRED), -len(path)


def _prefixes(names: Iterable[str]) -> list[str]:
    found = {""}
    for name in names:
        prefix = ""
        for _ in range(MAX_WRAPPERS):
            step = next((wrapper for wrapper in WRAPPERS if name.startswith(wrapper, len(prefix))), None)
            if step is None:
                break
            prefix += step
            found.add(prefix)
    return sorted(found)


def _fit(wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor], *, source: str, group: str, prefix: str) -> Match:
    named = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    fits = {name: value for name, value in named.items() if name in wanted and value.shape == wanted[name].shape}
    other = [name for name in named if name in wanted and name not in fits]
    stems = {name.partition(".")[0] for name in wanted}
    left = [name for name in named if name not in wanted]
    outside = [name for name in tensors if not name.startswith(prefix)]
    report = LoadReport(
        source=source,
        group=group,
        prefix=prefix,
        num_loaded=len(fits),
        num_tensors=len(wanted),
        missing=tuple(name for name in wanted if name not in named),
        mismatched=tuple(f"{name} is {list(named[name].shape)}, not {list(wanted[name].shape)}" for name in other),
        left_over=(*left, *outside),
    )
    # A name left over from a part that the model has (layer1.2.conv1 in a ResNet-18) means another architecture.
    return Match(tensors=fits, report=report, foreign=tuple(n for n in left if n.partition(".")[0] in stems))


def _refuse_misfit(match: Match, partial: bool) -> None:
    report = match.report
    counts = f"{report.source}: {report.num_loaded} of {report.num_tensors} tensors fit"
    if not report.num_loaded:
        names = report.left_over or [text.partition(" ")[0] for text in report.mismatched]
        raise SimcoreError(f"{counts} the model (the file has {_some(names)}); is it of another backbone?")
    if partial:
        return
    if report.mismatched:
        raise SimcoreError(f"{counts}, {len(report.mismatched)} have another shape: {_some(report.mismatched)}")
    if not report.complete:
        raise SimcoreError(
            f"{counts}, {len(report.missing)} are missing ({_some(report.missing)}); "
            "partial loading (--partial) takes what is there"
        )
    if match.foreign:
        raise SimcoreError(
            f"{counts}, but the file holds {len(match.foreign)} more of the same parts ({_some(match.foreign)}): "
            "it is of a larger backbone"
        )


def _refuse_broken(match: Match) -> None:
    broken = [n for n, v in match.tensors.items() if v.is_floating_point() and not bool(torch.isfinite(v).all())]
    if broken:
        raise SimcoreError(f"{match.report.source}: {len(broken)} tensors hold NaN or infinity ({_some(broken)})")


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - NUM_LISTED} more" if len(listed) > NUM_LISTED else ""
    return ", ".join(listed[:NUM_LISTED]) + more
