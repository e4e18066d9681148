"""What ``prepare`` leaves: lists that point at the images, which may have been copied into class folders."""

from __future__ import annotations

import csv
import dataclasses
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from simcore.datasets._dataset import Dataset, Row
from simcore.errors import SimcoreError
from simcore.images.export_files import FolderNames
from simcore.images.names import escape

EXAMPLES = 5


@dataclasses.dataclass
class Tally:
    """Counts of what was kept, by split and label, and of what was left out, by reason."""

    kept: dict[str, Counter[str | None]] = dataclasses.field(default_factory=dict)
    left_out: Counter[str] = dataclasses.field(default_factory=Counter)
    without_label: Counter[str] = dataclasses.field(default_factory=Counter)
    examples: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    def keep(self, row: Row) -> None:
        """Count an image that is part of the set."""
        self.kept.setdefault(row.split, Counter())[row.label] += 1

    def leave_out(self, reason: str, row: Row) -> None:
        """Count an image that is not, and remember the first few."""
        self.left_out[reason] += 1
        shown = self.examples.setdefault(reason, [])
        if len(shown) < EXAMPLES:
            shown.append(escape(row.path))

    @property
    def num_images(self) -> dict[str, int]:
        """Images kept, by split."""
        return {split: counts.total() for split, counts in self.kept.items()}

    @property
    def classes(self) -> list[str]:
        """Every label met."""
        return sorted({label for counts in self.kept.values() for label in counts if label is not None})


def kept_rows(dataset: Dataset, rows: Iterable[Row], attribute: str | None, tally: Tally) -> Iterator[Row]:
    """Give the images of the published set that are there, labelled by ``attribute`` where one is asked for."""
    for row in rows:
        reason = None if os.path.isfile(row.path) else "missing"  # noqa: PTH113 - may run over 10^7 files
        reason = reason or dataset.reject(row)
        if reason is None and attribute is not None:
            row = row._replace(label=row.attributes.get(attribute) or None)
            if row.label is None:
                reason = f"no {attribute}"
                tally.without_label[row.split] += 1
        if reason is not None:
            tally.leave_out(reason, row)
            continue
        tally.keep(row)
        yield row


class Lists:
    """Writes one CSV file a split: ``path,label``, the attributes, and ``boxes`` and ``mask`` where there are any.

    Paths below ``home``, where the lists lie, are relative to it, so that it can be moved; all others are absolute.
    """

    def __init__(self, dataset: Dataset, home: Path) -> None:
        self._dataset, self._home = dataset, home
        self._extra = [*dataset.attributes, *dataset.columns]
        self._header = ["path", "label", *self._extra]
        self._header += ["boxes"] * dataset.has_boxes + ["mask"] * bool(dataset.mask_values)
        self._files: dict[str, IO[str]] = {}
        self._writers: dict[str, Any] = {}

    def __enter__(self) -> Lists:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def add(self, row: Row) -> None:
        """Write one line."""
        if row.split not in self._writers:
            self._open(row.split)
        cells = [self._path(row.path), "" if row.label is None else row.label]
        cells += [row.attributes.get(name, "") for name in self._extra]
        if self._dataset.has_boxes:
            cells.append(";".join(" ".join(f"{edge:g}" for edge in box) for box in row.boxes))
        if self._dataset.mask_values:
            cells.append(self._path(row.mask) if row.mask and Path(row.mask).is_file() else "")
        self._writers[row.split].writerow(cells)

    def _open(self, split: str) -> None:
        self._files[split] = file = (self._home / f"{split}.csv").open(
            "x", encoding="utf-8", errors="surrogateescape", newline=""
        )
        self._writers[split] = csv.writer(file, lineterminator="\n")
        self._writers[split].writerow(self._header)

    def _path(self, path: str) -> str:
        return path.removeprefix(f"{self._home}/")


def read_list(path: Path) -> Iterator[Row]:
    """Read the paths and labels of a list that :class:`Lists` wrote."""
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        for line in csv.DictReader(file):
            yield Row(path.stem, str(path.parent / line["path"]), line["label"] or None)


class Copies:
    """Copies images to ``<split>/<class>/<name>`` and masks to ``masks/<split>/<class>/<name>`` below ``home``.

    Files that this run unpacked itself are linked, so that they do not need the room twice.
    """

    def __init__(self, home: Path, unpacked: Path) -> None:
        self._home, self._unpacked = home, f"{unpacked}/"
        self._folders = FolderNames()

    def add(self, row: Row) -> Row:
        """Copy the files of one image and give its row with the new paths."""
        above = Path(row.split) if row.label is None else Path(row.split, self._folders.name(row.label))
        path = self._place(row.path, self._home / above)
        has_mask = row.mask != "" and Path(row.mask).is_file()
        mask = self._place(row.mask, self._home / "masks" / above) if has_mask else ""
        return row._replace(path=path, mask=mask)

    def _place(self, source: str, folder: Path) -> str:
        folder.mkdir(parents=True, exist_ok=True)
        *_, parent, name = source.split("/")
        target, number = folder / name, 1
        while target.exists():
            target = folder / (f"{parent}_{name}" if number == 1 else f"{parent}_{number}_{name}")
            number += 1
        try:
            if not (source.startswith(self._unpacked) and _linked(source, target)):
                shutil.copyfile(source, target)
        except OSError as error:
            raise SimcoreError(f"{escape(source)}: cannot be copied ({error.strerror})") from error
        return str(target)


def _linked(source: str, target: Path) -> bool:
    try:
        target.hardlink_to(source)
    except OSError:  # a file system without hard links
        return False
    return True
