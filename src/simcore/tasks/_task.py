"""What every evaluation task shares: the settings that carry one name everywhere, and how its figures are left."""

from __future__ import annotations

import dataclasses
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from simcore.artifacts import Embeddings, Report
from simcore.errors import UsageError
from simcore.registry import name_of
from simcore.settings import as_dict, fields_of, setting

if TYPE_CHECKING:
    from simcore.embedding import Encoder
    from simcore.images import ImageSource


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """An evaluation: an encoder and two labelled sets to a Report. A task file holds one subclass.

    Where ``takes_unlabelled``, ``evaluate`` also takes a third source of that name, whose labels it never looks at.
    """

    takes_unlabelled: ClassVar[bool] = False

    seed: int = setting(0, "seed of every random draw")
    device: str = setting("auto", "auto, cpu, cuda, cuda:N or mps")
    num_workers: int | None = setting(None, "processes that decode images (default: one a core, up to 8)")

    @property
    def on_features(self) -> bool:
        """Whether it works on frozen features alone, so that what has been embedded serves several attributes."""
        return False

    def __post_init__(self) -> None:
        for field in fields_of(type(self)):
            value = getattr(self, field.name)
            if field.choices and value not in field.choices:
                raise UsageError(f"{field.flag} is {value!r}, but must be one of {', '.join(field.choices)}")

    def run(
        self,
        encoder: Encoder | None,
        train: ImageSource | Embeddings,
        test: ImageSource | Embeddings,
        *,
        unlabelled: ImageSource | None = None,
        out: str | os.PathLike[str] | None = None,
        quiet: bool = False,
    ) -> Report:
        """Learn from ``train``, measure on ``test``; leave ``metrics.json`` (and what was trained) in ``out``.

        ``encoder`` may be None where both sets are stores and the task trains no backbone.
        """
        place = None if out is None else Path(out)
        if unlabelled is not None and not self.takes_unlabelled:
            raise UsageError(f"{name_of(self)} takes no unlabelled images")
        more: dict[str, Any] = {} if unlabelled is None else {"unlabelled": unlabelled}
        report = self.evaluate(encoder, train, test, out=place, quiet=quiet, **more)
        if name := _name_of_encoder(encoder, train):
            report = dataclasses.replace(report, details={"encoder_name": name, **report.details})
        if place is not None:
            report.save(place / "metrics.json")
        return report

    @abstractmethod
    def evaluate(
        self,
        encoder: Encoder | None,
        train: ImageSource | Embeddings,
        test: ImageSource | Embeddings,
        *,
        out: Path | None,
        quiet: bool,
    ) -> Report:
        """Do the task and give its report; weights that it trained go to ``out``."""

    def report(self, metrics: Mapping[str, float], details: Mapping[str, Any], parents: Mapping[str, str]) -> Report:
        """Put figures together with the settings that they were made with."""
        return Report(
            task=name_of(self), metrics=metrics, details=details, settings=as_dict(self), parents=dict(parents)
        )


def _name_of_encoder(encoder: Encoder | None, train: ImageSource | Embeddings) -> str | None:
    """Give what the user called the network whose features are looked at, where that is known."""
    if encoder is not None:
        return encoder.spec
    return train.info.get("encoder") if isinstance(train, Embeddings) else None
