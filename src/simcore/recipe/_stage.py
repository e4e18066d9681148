"""One stage of a recipe, and where its artifacts lie."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from simcore.artifacts.files import fingerprint, read_json, write_json
from simcore.errors import SimcoreWarning
from simcore.images.source import ImageSource
from simcore.ranks import Ranks


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


class Key(NamedTuple):
    """What something was made from; ``undated`` leaves out the modification times of the images' files."""

    dated: str
    undated: str

    @classmethod
    def of(cls, *parts: Any) -> Key:
        """Join keys, images and settings to one key."""
        pairs = [_pair(part) for part in parts]
        return cls(*(fingerprint("simcore recipe 1", *side) for side in zip(*pairs, strict=True)))


def _pair(part: Any) -> tuple[Any, Any]:
    if isinstance(part, ImageSource):
        return part.fingerprint, part.undated
    return part if isinstance(part, Key) else (part, part)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """One piece of work that leaves ``output``.

    Attributes:
        key: what the output is made from; an earlier output of another key is made anew.
        work: does it; is told whether it may resume.
        images_at: where the images lie that the output names, if it names any; only written anew if they lie elsewhere.
        moved: take an earlier output for this one, too, if only the dates of the images' files changed.
        costly: put an output of another key aside instead of removing it.
    """

    name: str
    key: Key
    output: Path
    work: Callable[[bool], Any]
    images_at: str = ""
    moved: bool = False
    costly: bool = False

    def run(self, out: Path) -> None:
        """Do the work unless it is done; of several processes the first clears what is in the way."""
        if not self.is_finished(out):
            self.work(self._begun(out))
        if Ranks.from_environment().leads:
            self._note(out, finished=True)

    def _begun(self, out: Path) -> bool:
        """Make way for the output; tell whether there may be something of it to resume."""
        same = self._is_same(self._known(out))
        ranks = Ranks.from_environment()
        if not ranks.leads:
            ranks.wait(lambda: not self._is_same(self._known(out)), f"rank 0 to begin {self.name}")
            return same
        if not same:
            (_put_aside if self.costly else _remove)(self.output)
        self._note(out, finished=False)
        return same

    def is_finished(self, out: Path) -> bool:
        """Whether an earlier run left this very output."""
        known = self._known(out)
        there = known.get("images_at", "") == self.images_at
        return bool(self._is_same(known) and there and known.get("finished") and self.output.exists())

    def _is_same(self, known: dict[str, Any]) -> bool:
        return known.get("key") == self.key.dated or (self.moved and known.get("undated") == self.key.undated)

    def _note(self, out: Path, *, finished: bool) -> None:
        key = {"key": self.key.dated, "undated": self.key.undated}
        noted = key | ({"images_at": self.images_at} if self.images_at else {}) | {"finished": finished}
        if noted != self._known(out):
            write_json(self._ledger(out), noted)

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


def _put_aside(path: Path) -> None:
    """Rename what took long to make, and say so."""
    if not path.exists():
        return
    aside = next(name for n in itertools.count(1) if not (name := path.with_name(f"{path.name}.former-{n}")).exists())
    path.rename(aside)
    warnings.warn(
        f"{path}: the recipe or its images changed since it was trained; it is kept as {aside.name}, and trained anew",
        SimcoreWarning,
        stacklevel=3,
    )
