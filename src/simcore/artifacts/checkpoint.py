"""Checkpoint: a folder that `simcore pretrain` left, seen as settings and backbone weights."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from simcore.artifacts._html import card
from simcore.artifacts.files import written_aside
from simcore.errors import SimcoreError


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A finished or running pretraining RUN.

    ``config`` is the content of ``config.yaml``: method and settings, backbone, image_size, data, parents.
    """

    path: Path
    config: Mapping[str, Any]

    def _repr_html_(self) -> str:
        facts = {name: self.config.get(name) for name in ("method", "backbone", "image_size")}
        return card(f"RUN {self.path}", {**facts, "finished": self.finished}, list(self._data()), ("data", "images"))

    def _data(self) -> Iterator[tuple[str, Any]]:
        for side, part in (self.config.get("data") or {}).items():
            yield f"{side}: {part.get('name')}", part.get("num_images")

    @property
    def weights(self) -> Path:
        """The backbone in timm's naming, as safetensors."""
        return self.path / "backbone.safetensors"

    @property
    def finished(self) -> bool:
        """Whether the training ran to its end and left a backbone."""
        return self.weights.is_file()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Checkpoint:
        """Open a RUN folder; ``SimcoreError`` where it is none."""
        place = Path(path)
        try:
            config = yaml.safe_load((place / "config.yaml").read_text("utf-8"))
        except FileNotFoundError as error:
            raise SimcoreError(f"{place}: not a RUN (it has no config.yaml)") from error
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise SimcoreError(f"{place / 'config.yaml'}: not readable ({' '.join(str(error).split())})") from error
        if not isinstance(config, dict) or "backbone" not in config:
            raise SimcoreError(f"{place / 'config.yaml'}: not a config that `simcore pretrain` wrote")
        return cls(path=place, config=config)

    def save(self) -> None:
        """Write ``config.yaml``; weights are written by the training loop."""
        with written_aside(self.path / "config.yaml") as aside:
            aside.write_text(yaml.safe_dump(dict(self.config), sort_keys=False, allow_unicode=True), "utf-8")
