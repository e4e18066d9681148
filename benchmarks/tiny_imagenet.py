"""The real images of several benchmarks: groups of Tiny-ImageNet's classes as targets, its train images as the pool."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Group:
    """One fine-grained target.

    Attributes:
        data: folder of ``train-*.parquet``, ``val.parquet`` and ``targets.json``.
        wnids, labels: its classes, as WordNet ids and as numbers.
        per_class: how many train images of each class are the target.
    """

    data: Path
    wnids: tuple[str, ...]
    labels: frozenset[int]
    per_class: int

    @property
    def pool(self) -> str:
        """All train images of all classes."""
        return f"{self.data}/train-*.parquet"

    @property
    def target(self) -> str:
        """The first train images of each of its classes."""
        return f"{self.pool}{self._classes}&limit-per-class={self.per_class}"

    @property
    def held_out(self) -> str:
        """The other train images of its classes: a large test set for networks that never saw the pool."""
        return f"{self.pool}{self._classes}&skip-per-class={self.per_class}"

    @property
    def test(self) -> str:
        """The validation images of its classes."""
        return f"{self.data}/val.parquet{self._classes}"

    @property
    def _classes(self) -> str:
        return f"#classes={','.join(self.wnids)}"


def add_flag(parser: argparse.ArgumentParser) -> None:
    """Declare where the images lie."""
    parser.add_argument("--data", type=Path, required=True, help="Tiny-ImageNet as Parquet, with targets.json")


def groups(data: Path, *, per_class: int = 100) -> dict[str, Group]:
    """Read what each target is."""
    place = data.resolve()
    found = json.loads((place / "targets.json").read_text())
    return {
        name: Group(place, tuple(body["wnids"]), frozenset(body["labels"]), per_class) for name, body in found.items()
    }


def classes(data: Path) -> list[dict[str, str]]:
    """Read all classes in the order of their labels: ``wnid``, ``label`` and ``words``, their names."""
    with (data / "classes.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def distinct(data: Path, *, per_class: int = 100) -> Group:
    """Give the group of every twentieth class: ten things that have nothing to do with one another."""
    chosen = classes(data)[::20]
    wnids, labels = tuple(row["wnid"] for row in chosen), frozenset(int(row["label"]) for row in chosen)
    return Group(data=data.resolve(), wnids=wnids, labels=labels, per_class=per_class)
