"""Lists of images: a text file with a path a line, or a CSV table with a path column and maybe a label column."""

from __future__ import annotations

import csv
import io
import os
import re
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from simcore.errors import SimcoreError
from simcore.images.faults import Unreadable
from simcore.images.folder import SplitChoice, split_kind
from simcore.images.formats import IMAGE_EXTENSIONS
from simcore.images.labels import number_labels, parse_labels
from simcore.images.listed_boxes import annotated
from simcore.images.names import escape
from simcore.images.single_files import FileReader
from simcore.images.source import ImageSource, SourceNotes, listing_of
from simcore.images.storage import folder_of, is_remote, join, local_path, read_bytes, stamp_of

# Column names in the order in which they are looked for; compared in lower case.
PATH_COLUMNS = (
    "path", "image_path", "img_path", "file_path", "filepath", "file", "file_name", "filename", "image", "img",
    "image_name", "name", "uri", "url", "image_url", "image_id", "id",
)  # fmt: skip
LABEL_COLUMNS = (
    "label", "labels", "class", "class_name", "classname", "class_id", "label_name", "category", "category_id",
    "target", "cls", "y", "fine_label",
)  # fmt: skip
BOX_COLUMNS = ("boxes", "box", "bbox", "bboxes")
MASK_COLUMNS = ("mask", "mask_path", "segmentation", "annotation_mask")
SPLIT_COLUMNS = ("split", "subset", "set", "partition", "fold")


class Entry(NamedTuple):
    """One line of a list; ``path`` is as written (a name that is not UTF-8 as ``os.fsdecode`` gives it)."""

    path: str
    label: str | None = None
    split: str | None = None
    boxes: str | None = None
    mask: str | None = None


def open_list(where: str, choice: SplitChoice) -> ImageSource:
    """List the images that a ``.txt`` or ``.csv`` file names; relative paths start at the file's own folder.

    A table may have a column ``boxes`` (``left top right bottom [class]``, several parted by ``;``, the class being
    the row's label where none stands there) and a column ``mask`` (path of the segmentation mask).
    """
    try:
        text = _decoded(read_bytes(where if is_remote(where) else escape(where)))
    except Unreadable as fault:
        raise SimcoreError(f"{where}: cannot be read ({fault.reason})") from fault
    if choice.label is not None and not _is_table(where, text):
        raise SimcoreError(f"{where}: has no column '{choice.label}'; only a .csv or .tsv list has columns")
    entries = parse_csv(text, label=choice.label, where=where) if _is_table(where, text) else parse_lines(text)
    return list_entries(_of_split(entries, choice, where), where=where, folder=folder_of(where))


def list_entries(entries: list[Entry], *, where: str, folder: str) -> ImageSource:
    """Make a source of entries; a path that was listed before is left out and counted."""
    first = {entry.path: entry for entry in reversed(entries)}
    kept = [entry for number, entry in enumerate(entries) if first[entry.path] is entry]
    if not kept:
        raise SimcoreError(f"{where}: names no images")
    paths = [_place(entry.path, folder) for entry in kept]
    labels, classes = number_labels(parse_labels(pa.array([entry.label for entry in kept], pa.string())))
    stamps = np.array([_stamp(path) for path in paths], np.int64)
    plain = ImageSource(
        name=where,
        classes=classes,
        listing=listing_of(
            ids=pa.array([escape(entry.path) for entry in kept], pa.string()),
            uris=pa.array([path if is_remote(path) else escape(path) for path in paths], pa.string()),
            labels=labels,
            firsts=stamps[:, 0],
            seconds=stamps[:, 1],
        ),
        readers=(FileReader(),),
        notes=SourceNotes(num_repeated=len(entries) - len(kept)),
    )
    return annotated(plain, [entry.boxes for entry in kept], [_mask_place(entry.mask, folder) for entry in kept])


def _mask_place(path: str | None, folder: str) -> str | None:
    return None if path is None else _place(path, folder)


def _decoded(data: bytes) -> str:
    """Decode a list: UTF-16 where its mark says so, else UTF-8 with other bytes kept as they are."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    return data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")


def _is_table(where: str, text: str) -> bool:
    return where.lower().endswith((".csv", ".tsv"))


def parse_lines(text: str) -> list[Entry]:
    """Read one path a line; after it, a label may stand behind a tab, or behind a blank if the path ends clearly."""
    return [_parse_line(line) for line in text.splitlines() if line.strip()]


def _parse_line(line: str) -> Entry:
    if "\t" in line:
        path, _, label = line.strip().partition("\t")
        return Entry(path.strip(), label.strip() or None)
    line = line.strip()
    if len(line) > 2 and line[0] == line[-1] and line[0] in "\"'":
        return Entry(line[1:-1])
    path, _, label = line.rpartition(" ")
    if path and not _names_image(line) and _names_image(path.rstrip().rstrip(",")):
        return Entry(path.rstrip().rstrip(","), label)
    return Entry(line)


def _names_image(text: str) -> bool:
    return "." in text and text.rpartition(".")[2].lower() in IMAGE_EXTENSIONS


def parse_csv(text: str, *, label: str | None = None, where: str = "the table") -> list[Entry]:
    """Read a table: named columns where there is a header, else path, label; comma, semicolon or tab.

    ``label`` names the column that is the label, where it is not one of the usual names.
    """
    first_line = text.partition("\n")[0]
    delimiter = max(",;\t", key=first_line.count)
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(map(str.strip, row))]
    if not rows:
        return []
    header = [_column(cell) for cell in rows[0]]
    if label is not None and _column(label) not in header:
        raise SimcoreError(f"{where}: has no column '{label}'; it has {', '.join(rows[0])}")
    named = next((header.index(name) for name in PATH_COLUMNS if name in header), None)
    looks = [any(_names_image(row[at].strip()) for row in rows[:5] if at < len(row)) for at in range(len(header))]
    path_at = named if named is not None else looks.index(True) if True in looks else 0
    if named is None and (not looks[path_at] or _names_image(rows[0][path_at].strip())):  # no header
        return [_entry(row, path_at, 1 if path_at == 0 else 0) for row in rows]
    more = (LABEL_COLUMNS if label is None else (_column(label),), SPLIT_COLUMNS, BOX_COLUMNS, MASK_COLUMNS)
    places = [next((header.index(name) for name in names if name in header), None) for names in more]
    boxes_at, entries = places[2], [_entry(row, path_at, *places) for row in rows[1:]]
    # Of a table with boxes, an empty cell says that there is no object.
    return entries if boxes_at is None else [entry._replace(boxes=entry.boxes or "") for entry in entries]


def _column(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def _entry(
    row: list[str],
    path_at: int,
    label_at: int | None,
    split_at: int | None = None,
    boxes_at: int | None = None,
    mask_at: int | None = None,
) -> Entry:
    def cell(at: int | None) -> str | None:
        return (row[at].strip() or None) if at is not None and at < len(row) else None

    return Entry(cell(path_at) or "", cell(label_at), cell(split_at), cell(boxes_at), cell(mask_at))


def _of_split(entries: list[Entry], choice: SplitChoice, where: str) -> list[Entry]:
    """Keep the entries of the wanted split where the table has a split column."""
    there = {entry.split for entry in entries if entry.split}
    if choice.name == "all" or not (choice.explicit or {split_kind(name) for name in there} >= {"train", "test"}):
        return entries
    wanted = split_kind(choice.name) or choice.name
    kept = [e for e in entries if e.split and (e.split == choice.name or split_kind(e.split) == wanted)]
    if not kept:
        has = f"it has {', '.join(sorted(there))}" if there else "it has no split column"
        raise SimcoreError(f"{where}: has no split '{choice.name}'; {has}")
    return kept


def _place(path: str, folder: str) -> str:
    """Find the file that an entry means; backslashes of another system are read as slashes if that finds it."""
    place = join(folder, local_path(path))
    if "\\" in path and not is_remote(place) and not os.path.lexists(place):
        other = join(folder, path.replace("\\", "/"))
        return other if os.path.lexists(other) else place
    return place


def _stamp(path: str) -> tuple[int, int]:
    if is_remote(path):
        return -1, -1  # one request each would cost more than reading the images
    try:
        return stamp_of(path)
    except Unreadable:
        return -1, -1
