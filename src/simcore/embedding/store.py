"""A store of features on disk: finished piece by piece, whole or absent, the same bytes however often it was cut off.

While it is made, ``store.json`` says ``"complete": false`` and finished pieces lie in the folder ``.working``.
At the end they are merged into ``features-NNNNN.npy``, the tables are written, and ``store.json`` last of all.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from simcore.artifacts import Embeddings
from simcore.artifacts.embeddings import ROWS_SCHEMA, SKIPPED_SCHEMA
from simcore.artifacts.files import read_json, write_json, written_aside
from simcore.embedding._formats import FORMATS
from simcore.embedding._pieces import Piece, join_pieces, read_piece, split_rows, write_piece
from simcore.embedding._tables import NoFeatureError, describe_counts, rows_table, skipped_table
from simcore.errors import SimcoreError

WORKING = ".working"
OWN_FILES = re.compile(r"store\.json|rows\.parquet|skipped\.parquet|features-\d{5,}\.npy|\..+\.tmp")
# A reader keeps every file of features mapped, so they are few and large.
MIN_PART_ROWS, MAX_PARTS = 1 << 16, 256
DATED, UNDATED = "source_fingerprint", "source_undated"  # with and without the dates of its files
# What makes two stores differ, as told to the user: (name in store.json, what is shown of it).
IDENTITY = (
    ("encoder_fingerprint", "encoder"),
    (DATED, "source"),
    ("dtype", "dtype"),
    ("precision", "precision"),
)


class Store:
    """The writer of one store folder.

    Attributes:
        plan: what ``store.json`` will say, counts aside; ``plan["fingerprint"]`` is that of the features.
        listing: the source's table (id, uri, label), one row an image.
        pieces: the source rows of each piece.
        parts: the numbers of the pieces of each file of features.
    """

    def __init__(self, path: Path, plan: Mapping[str, Any], listing: pa.Table) -> None:
        self.path, self.plan, self.listing = path, dict(plan), listing
        self.working = path / WORKING
        self.recognise()
        self.pieces = split_rows(listing.num_rows)
        self._per_part = max(MIN_PART_ROWS // len(self.pieces[0]), -(-len(self.pieces) // MAX_PARTS))
        numbers = range(len(self.pieces))
        self.parts = [numbers[low : low + self._per_part] for low in numbers[:: self._per_part]]

    def state(self) -> str:
        """Say ``absent``, ``other`` (made from something else), ``unfinished`` or ``complete``.

        Raises ``SimcoreError`` for a folder that holds something which is no store.
        """
        if not (self.path / "store.json").exists():
            strange = [p.name for p in _entries(self.path) if p.name != WORKING and not OWN_FILES.fullmatch(p.name)]
            if strange:
                raise SimcoreError(f"{self.path} is no store but holds {strange[0]}; choose another --out")
            return "absent"
        known = self._known()
        if known.get("fingerprint") != self._key:
            return "other"
        return "complete" if known.get("complete") else "unfinished"

    def differences(self) -> str:
        """Say in words what the existing store was made from, where that is something else."""
        known, told = self._known(), []
        for name, shown in IDENTITY:
            old, new = known.get(shown), self.plan[shown]
            if known.get(name) != self.plan[name]:
                told.append(
                    f"its {shown} is {old}, not {new}" if old != new else f"its {shown} {old} has changed since"
                )
        return " and ".join(told) or "it is of another version of simcore"

    def only_dates_changed(self) -> bool:
        """Whether nothing but the dates of the source's files tells the existing store from the one planned."""
        known = self._known()
        return not self._equals(known, DATED) and self._equals(known, UNDATED)

    def lies_elsewhere(self) -> bool:
        """Whether the existing store is the one planned and complete, but says that its images lie at another place."""
        known = self._known()
        if not (known.get("complete") and self._equals(known, DATED)):
            return False
        try:
            with pq.ParquetFile(self.path / "rows.parquet") as table:
                first = table.read_row_group(0, columns=["id", "uri"]).slice(0, 1).to_pylist()[0]
        except (OSError, pa.ArrowException):
            return False  # whoever opens the store says what is damaged
        there = pc.index(self.listing["id"], first["id"]).as_py()
        return bool(there >= 0 and self.listing["uri"][there].as_py() != first["uri"])

    def adopt(self) -> None:
        """Make the existing store the one planned; its fingerprint stays, so that its coresets still know it."""
        known = self._known()
        if known.get("complete"):
            self._readdress()
        renewed = {name: self.plan[name] for name in ("source", DATED)}
        write_json(self.path / "store.json", {**known, **renewed})
        self.recognise()

    def recognise(self) -> None:
        """Take over the fingerprint of an existing store of this plan: an adopted one has that of before."""
        known = self._known()
        if self._equals(known, DATED):
            self.plan["fingerprint"] = known["fingerprint"]
        self._key = str(self.plan["fingerprint"])

    def _readdress(self) -> None:
        """Write into the table of rows where the images lie now."""
        place, column = self.path / "rows.parquet", ROWS_SCHEMA.get_field_index("uri")
        skipped = pq.read_table(self.path / "skipped.parquet", columns=["id"])["id"]
        uris = self.listing["uri"].filter(pc.invert(pc.is_in(self.listing["id"], value_set=skipped)))
        with (
            pq.ParquetFile(place) as table,
            written_aside(place) as aside,
            pq.ParquetWriter(aside, ROWS_SCHEMA, compression="zstd") as writer,
        ):
            for number in range(table.num_row_groups):
                group = table.read_row_group(number)
                there = uris.slice(group["row"][0].as_py(), len(group))
                writer.write_table(group.set_column(column, ROWS_SCHEMA.field(column), there))

    def begin(self) -> None:
        """Make the folder an unfinished store of this plan, and remove what was made from something else.

        The plan is written last: other ranks take it for the sign that the folder is clean.
        """
        self._remove_own_files()
        for stale in _entries(self.working):
            if stale.is_dir():
                shutil.rmtree(stale)
        write_json(self.path / "store.json", {**self.plan, "complete": False})

    def is_sound(self) -> bool:
        """Whether the store is complete and every file of it as long as it should be."""
        try:
            return self.state() == "complete" and bool(self.load())
        except SimcoreError:
            return False

    def missing(self) -> list[int]:
        """Numbers of the pieces that are not finished (a merged part stands for all its pieces)."""
        return [
            number
            for part, numbers in enumerate(self.parts)
            if not self._part_path(part).exists()
            for number in numbers
            if not self._piece_path(number).exists()
        ]

    def add(self, number: int, piece: Piece) -> None:
        """Write a piece, whole or not at all."""
        write_piece(piece, self._piece_path(number), key=self._key)

    def finish(self) -> list[int]:
        """Merge the pieces and complete the store; where some are damaged, remove those and give their numbers.

        A store without a single row is removed, and ``NoFeatureError`` raised.
        """
        damaged = [number for part in range(len(self.parts)) for number in self._merge(part)]
        if not damaged:
            self._complete()
        return damaged

    def load(self) -> Embeddings:
        """Open the finished store; ``SimcoreError`` where a file of it is damaged."""
        return Embeddings.load(self.path)

    def clear_working(self) -> None:
        """Remove what only the making needed."""
        shutil.rmtree(self.working, ignore_errors=True)
        for leftover in _entries(self.path):
            if leftover.suffix == ".tmp" and OWN_FILES.fullmatch(leftover.name):
                leftover.unlink(missing_ok=True)

    def lock_path(self, rank: int) -> Path:
        """Give the file that the process of this rank locks while it works on the store."""
        return self.working / f"rank-{rank:05d}.lock"

    def _discard(self) -> None:
        """Remove the store; what else lies in its folder stays, and the folder with it."""
        self._remove_own_files()
        shutil.rmtree(self.working, ignore_errors=True)
        if not _entries(self.path):
            self.path.rmdir()

    def _remove_own_files(self) -> None:
        # store.json goes first: without it, the rest counts for nothing.
        (self.path / "store.json").unlink(missing_ok=True)
        for own in _entries(self.path):
            if OWN_FILES.fullmatch(own.name):
                own.unlink()

    def _merge(self, part: int) -> list[int]:
        """Turn the pieces of a part into its file of features and a record of its rows; give the damaged ones."""
        features, numbers = self._features_path(part), self.parts[part]
        record = read_piece(self._part_path(part), key=self._key)
        if record is None or _num_rows(features) != record.num_kept:
            self._part_path(part).unlink(missing_ok=True)
            records, damaged = self._check(numbers)
            if damaged:
                return damaged
            record = join_pieces(records)
            self._write_features(features, numbers, record.num_kept)
            write_piece(record, self._part_path(part), key=self._key)
        shutil.rmtree(self._piece_path(numbers[0]).parent, ignore_errors=True)
        return []

    def _check(self, numbers: Sequence[int]) -> tuple[list[Piece], list[int]]:
        """Read pieces; give the rows of the good ones, and the numbers of the damaged ones, which are removed."""
        records, damaged = [], []
        for number in numbers:
            piece = read_piece(self._piece_path(number), key=self._key)
            if piece is None:
                self._piece_path(number).unlink(missing_ok=True)
                damaged.append(number)
            else:
                records.append(piece.without_features())
        return records, damaged

    def _write_features(self, path: Path, numbers: Sequence[int], num_rows: int) -> None:
        dtype = FORMATS[self.plan["dtype"]]
        header = {"descr": dtype.str, "fortran_order": False, "shape": (num_rows, self.plan["dim"])}
        with written_aside(path) as aside, aside.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for number in numbers:
                piece = read_piece(self._piece_path(number), key=self._key)
                if piece is None:
                    raise SimcoreError(f"{self._piece_path(number)} was damaged a moment ago; run the same again")
                file.write(np.ascontiguousarray(piece.features).data)

    def _complete(self) -> None:
        """Write the tables, then store.json."""
        try:
            totals = describe_counts(self._records(), self.listing)
        except NoFeatureError:
            self._discard()
            raise
        self._write_table("rows.parquet", ROWS_SCHEMA, rows_table)
        self._write_table("skipped.parquet", SKIPPED_SCHEMA, skipped_table)
        filled = [path.name for path in map(self._features_path, range(len(self.parts))) if _num_rows(path)]
        write_json(self.path / "store.json", {**self.plan, "complete": True, **totals, "parts": filled})

    def _write_table(self, name: str, schema: pa.Schema, make: Callable[[Piece, pa.Table, int], pa.Table]) -> None:
        first_row = 0
        with written_aside(self.path / name) as aside, pq.ParquetWriter(aside, schema, compression="zstd") as writer:
            for record in self._records():
                writer.write_table(make(record, self.listing, first_row))
                first_row += record.num_kept

    def _records(self) -> Iterator[Piece]:
        for part in range(len(self.parts)):
            record = read_piece(self._part_path(part), key=self._key)
            if record is None:
                raise SimcoreError(f"{self._part_path(part)} was damaged a moment ago; run the same again")
            yield record

    def _equals(self, known: Mapping[str, Any], source: str) -> bool:
        """Whether two stores are made in the same way of the same images, by the field ``source`` of them."""
        names = {name for name, _ in IDENTITY} - {DATED} | {"format", source}
        return all(known.get(name) == self.plan[name] for name in names)

    def _known(self) -> Mapping[str, Any]:
        try:
            known = read_json(self.path / "store.json")
        except SimcoreError:
            return {}
        return known if isinstance(known, dict) else {}

    def _features_path(self, part: int) -> Path:
        return self.path / f"features-{part:05d}.npy"

    def _part_path(self, part: int) -> Path:
        return self.working / "parts" / f"part-{part:05d}"

    def _piece_path(self, number: int) -> Path:
        return self.working / f"pieces-{number // self._per_part:05d}" / f"piece-{number:08d}"


def _num_rows(features: Path) -> int:
    """Rows of a file of features; -1 where it is absent or cut."""
    try:
        return len(np.load(features, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError):
        return -1


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
