"""One stage of a recipe, and where its artifacts lie."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simcore.artifacts.files import read_json, write_json


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where each artifact of a recipe lies."""

    out: Path

    def store(self, side: str) -> Path:
        """Features of ``target`` or ``pool``."""
        return self.out / "stores" / side

    def coreset(self, arm: str, seed: int) -> Path:
        """The coreset of an arm."""
        return self.out / "coresets" / f"{arm}-seed{seed}.parquet"

    def run(self, arm: str, seed: int) -> Path:
        """The pretraining of an arm."""
        return self.out / "runs" / f"{arm}-seed{seed}"

    def evaluation(self, arm: str, seed: int, task: str) -> Path:
        """The figures of an arm."""
        return self.out / "evaluations" / f"{arm}-seed{seed}-{task}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """One piece of work that leaves ``output``."""

    name: str
    key: str
    output: Path
    work: Callable[[bool], Any]

    def run(self, out: Path) -> None:
        """Do the work unless it is done; ``work`` is told whether it may resume."""
        if self.is_finished(out):
            return
        same = self._known(out).get("key") == self.key
        if not same:
            _remove(self.output)
        write_json(self._ledger(out), {"key": self.key, "finished": False})
        self.work(same)
        write_json(self._ledger(out), {"key": self.key, "finished": True})

    def is_finished(self, out: Path) -> bool:
        """Whether an earlier run left this very output."""
        known = self._known(out)
        return bool(known.get("key") == self.key and known.get("finished") and self.output.exists())

    def _known(self, out: Path) -> dict[str, Any]:
        ledger = self._ledger(out)
        return dict(read_json(ledger)) if ledger.is_file() else {}

    def _ledger(self, out: Path) -> Path:
        return out / "stages" / f"{self.name}.json"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
