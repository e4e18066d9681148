"""Report: the figures of one evaluation, with the settings and inputs they were made from."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simcore.artifacts._html import card
from simcore.artifacts.files import read_json, write_json
from simcore.errors import SimcoreError

REPORT_FORMAT = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What an evaluation task found.

    ``metrics`` maps a name to a number (accuracies in percent); ``details`` holds what does not fit there
    (per-class accuracy, absent classes, curves); ``settings`` and ``parents`` say how it was made.
    """

    task: str
    metrics: Mapping[str, float]
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    parents: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def _repr_html_(self) -> str:
        return card(f"Evaluation: {self.task}", {}, list(self.metrics.items()), ("metric", "value"))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ``metrics.json``, whole or not at all."""
        write_json(path, {"format": REPORT_FORMAT, **dataclasses.asdict(self)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Report:
        """Read a ``metrics.json``, or the one in a folder; ``SimcoreError`` where there is none."""
        place = Path(path)
        content = read_json(place / "metrics.json" if place.is_dir() else place)
        if not isinstance(content, dict) or content.get("format") != REPORT_FORMAT:
            raise SimcoreError(f"{place}: not a metrics file that `simcore evaluate` wrote")
        content.pop("format")
        return cls(**content)
