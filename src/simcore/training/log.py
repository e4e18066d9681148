"""What a run leaves to read: ``log.jsonl``, and TensorBoard event files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from simcore.artifacts.files import written_aside

LOG_NAME = "log.jsonl"


class RunLog:
    """Lines of ``log.jsonl``, each with ``event`` (``step`` or ``epoch``), ``epoch`` and ``step``, counted from 1.

    On resume the lines of steps that will be run again are dropped first, so that no step stands there twice.
    """

    def __init__(self, folder: Path | None, *, done_steps: int = 0, tensorboard: bool = False) -> None:
        """Open the log of ``folder`` after ``done_steps`` steps; None writes nothing."""
        self._file: TextIO | None = None
        self._board: Any = None
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        _keep_until(folder / LOG_NAME, done_steps)
        self._file = (folder / LOG_NAME).open("a", encoding="utf-8")
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter  # slow to import

            self._board = SummaryWriter(str(folder), purge_step=done_steps + 1 if done_steps else None)

    def write(self, event: str, epoch: int, step: int, values: Mapping[str, Any]) -> None:
        """Add one line, and its numbers to TensorBoard under ``event/name``; NaN and infinity become null."""
        if self._file is not None:
            line = {"event": event, "epoch": epoch, "step": step, **{k: _plain(v) for k, v in values.items()}}
            self._file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
            self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(f"{event}/{name}", value, step)

    def close(self) -> None:
        """Finish both files."""
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Give the whole lines of a run's ``log.jsonl``; a last line cut short by a kill is left out."""
    path = folder / LOG_NAME
    return _whole_lines(path.read_text("utf-8")) if path.is_file() else []


def _whole_lines(text: str) -> list[dict[str, Any]]:
    lines = []
    for line in text.splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines


def _keep_until(path: Path, done_steps: int) -> None:
    if not path.exists():
        return
    kept = [line for line in read_log(path.parent) if line.get("step", 0) <= done_steps]
    with written_aside(path) as aside:
        aside.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept), "utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
