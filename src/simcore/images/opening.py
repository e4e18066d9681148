"""open_images: from what the user wrote to a source, its kind seen from what is there."""

from __future__ import annotations

import dataclasses
import functools
import operator
import os
import re
import warnings
from collections.abc import Sequence

from simcore.artifacts.files import parse_json
from simcore.errors import SimcoreError, SimcoreWarning, UsageError
from simcore.images.coco_json import open_coco
from simcore.images.faults import Unreadable
from simcore.images.folder import NoImagesError, SplitChoice, open_folder, pick_split, split_kind
from simcore.images.formats import IMAGE_EXTENSIONS, has_image_signature
from simcore.images.masks import open_masked_folder
from simcore.images.names import unescape
from simcore.images.parquet import open_parquet
from simcore.images.path_list import Entry, list_entries, open_list
from simcore.images.patterns import expand, is_pattern
from simcore.images.selectors import Selectors
from simcore.images.shards import open_shards
from simcore.images.source import ImageSource
from simcore.images.storage import (
    base_name,
    folder_of,
    is_remote,
    join,
    local_path,
    os_reason,
    read_bytes,
    read_start,
    remotely,
)
from simcore.images.voc_xml import looks_like_voc, open_voc
from simcore.images.walk import is_hidden

# What `simcore prepare` leaves beside the lists train.csv and test.csv of a named data set.
PREPARED_NOTE = "dataset.json"
KINDS = ("folder", "list", "wds", "parquet", "coco", "voc", "masks")
SUFFIXES = {
    "coco": (".json",),
    "parquet": (".parquet", ".pq"),
    "wds": (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst"),
    "list": (".txt", ".csv", ".tsv", ".lst"),
}


def open_images(where: str | os.PathLike[str], *, split: str = "train") -> ImageSource:
    """Open a SOURCE: a path or URL, perhaps with a kind before it (``wds:``) and selectors after it (``#limit=9``).

    A folder that holds split folders gives ``split`` unless '#split=NAME' says otherwise; 'all' gives all.
    Raises ``SimcoreError`` where nothing is there or nothing of it is an image, ``UsageError`` for a malformed
    call. What was left out while listing is told by ``SimcoreWarning`` and kept in ``notes``.
    """
    written = os.fspath(where)
    kind, place, selectors = parse_source(written)
    choice = SplitChoice(selectors.split or split, explicit=selectors.split is not None, label=selectors.label)
    source = dataclasses.replace(_open(kind, place, choice), name=written)
    for line in source.notes.warnings:
        warnings.warn(f"{written}: {line}", SimcoreWarning, stacklevel=2)
    return selectors.apply(source)


def parse_source(written: str) -> tuple[str | None, str, Selectors]:
    """Split a SOURCE into kind (None where unsaid), place and selectors; a '#' in an existing name is no selector."""
    if not written.strip():
        raise UsageError("the source is empty; give a folder, list, .tar, .parquet or COCO .json")
    kind, place = None, written
    head, colon, rest = written.partition(":")
    if colon and head in KINDS and not rest.startswith("//"):
        kind, place = head, rest
    place = local_path(place)
    path, hash_sign, text = place.rpartition("#")
    if not hash_sign or (not is_remote(place) and os.path.lexists(place)):
        return kind, _expanded(place), Selectors()
    return kind, _expanded(path), Selectors.parse(text, written)


def _expanded(place: str) -> str:
    return place if is_remote(place) else os.path.expanduser(place)  # noqa: PTH111


def _open(kind: str | None, place: str, choice: SplitChoice) -> ImageSource:
    if is_pattern(place):
        return _open_pattern(kind, place, choice)
    place = _existing(place)
    if _is_folder(place):
        return _open_folder(kind, place, choice)
    kind = kind or kind_of_file(place)
    if kind == "folder":
        _refuse_label(place, choice)
        return list_entries([Entry(base_name(place))], where=place, folder=folder_of(place))
    if kind == "list":
        return _with_mask_classes(open_list(place, choice), folder_of(place))
    if kind == "coco":
        return open_coco(place)
    if kind in ("voc", "masks"):
        raise UsageError(f"{place}: is a file; {kind}: takes a folder")
    return _open_containers(kind, place, [place], choice)


def _existing(place: str) -> str:
    """Check that a place is there; a name escaped as our tables write it is found too."""
    if is_remote(place):
        return place
    for name in (place, unescape(place)):
        if os.path.exists(name):  # noqa: PTH110
            return name
    raise SimcoreError(f"{place}: no such file or folder")


def _is_folder(place: str) -> bool:
    if not is_remote(place):
        return os.path.isdir(place)  # noqa: PTH112
    if kind_of_name(place):
        return False
    try:
        return bool(remotely(place, lambda system, path: system.isdir(path)))
    except Unreadable:
        return False


def _open_folder(kind: str | None, place: str, choice: SplitChoice) -> ImageSource:
    """Open a folder of images, or of tables or shards where it holds those and no images."""
    if kind == "masks":
        return open_masked_folder(place, choice)
    names = names_in(place) if kind in (None, "list") else []
    if kind == "voc" or looks_like_voc(names):
        return open_voc(place, choice)
    if kind == "coco":
        raise UsageError(f"{place}: is a folder; name the .json file of the annotations")
    lists = [name for name in names if kind_of_name(name) == "list" and split_kind(name.rpartition(".")[0])]
    if lists and (kind == "list" or PREPARED_NOTE in names):
        return _open_split_lists(place, sorted(lists), choice)
    if kind == "list":
        raise UsageError(f"{place}: is a folder; name the .txt or .csv file in it")
    if kind is None:
        kind = _kind_of_folder(names)
    if kind == "folder":
        _refuse_label(place, choice)
        return open_folder(place, choice)
    if kind is not None:
        return _open_containers(kind, place, _of_split(files_below(place, SUFFIXES[kind]), choice, place), choice)
    try:
        found_images = open_folder(place, choice)
    except NoImagesError:
        for kind in ("parquet", "wds"):
            if found := files_below(place, SUFFIXES[kind]):
                return _open_containers(kind, place, _of_split(found, choice, place), choice)
        raise
    _refuse_label(place, choice)
    return found_images


def _open_split_lists(place: str, lists: Sequence[str], choice: SplitChoice) -> ImageSource:
    """Open the list of the wanted split (``train.csv``); for 'all', those of all splits one after the other."""
    file_of = {name.rpartition(".")[0]: join(place, name) for name in lists}
    whole = SplitChoice("all", label=choice.label)
    first, *more = (open_list(file_of[split], whole) for split in pick_split(list(file_of), choice, place))
    return _with_mask_classes(functools.reduce(operator.add, more, first), place)


def _with_mask_classes(source: ImageSource, place: str) -> ImageSource:
    """Take over what the note of a prepared set says of the values of its masks."""
    if "mask" not in source.listing.column_names or PREPARED_NOTE not in names_in(place):
        return source
    try:
        note = parse_json(read_bytes(join(place, PREPARED_NOTE)))
    except (Unreadable, ValueError):
        return source  # another's file of that name
    known = note.get("mask_classes", ()) if isinstance(note, dict) else ()
    return dataclasses.replace(source, mask_classes=tuple(known))


def _kind_of_folder(names: Sequence[str]) -> str | None:
    """Tell by what a folder directly holds; None where that says nothing."""
    kinds = [kind_of_name(name) for name in names]
    return next((kind for kind in ("folder", "parquet", "wds") if kind in kinds), None)


def kind_of_name(name: str) -> str | None:
    """Tell the kind of a file by its extension; 'folder' for a single image."""
    lowered = name.lower().partition("?")[0] if is_remote(name) else name.lower()
    for kind, suffixes in SUFFIXES.items():
        if lowered.endswith(suffixes):
            return kind
    return "folder" if lowered.rpartition(".")[2] in IMAGE_EXTENSIONS and "." in lowered else None


def kind_of_file(place: str) -> str:
    """Tell the kind of a file by its extension, else by its first bytes."""
    if kind := kind_of_name(place):
        return kind
    try:
        head = read_start(place, 512)
    except Unreadable as fault:
        raise SimcoreError(f"{place}: {fault.reason}") from fault
    if head.startswith(b"PAR1"):
        return "parquet"
    if head[257:262] == b"ustar":
        return "wds"
    if has_image_signature(head):
        return "folder"
    raise SimcoreError(
        f"{place}: not a folder, list (.txt, .csv), .tar or .parquet; say which with a prefix ('list:…')"
    )


def _open_pattern(kind: str | None, pattern: str, choice: SplitChoice) -> ImageSource:
    files = expand(pattern)
    if choice.explicit:
        files = _of_split(files, choice, pattern)
    kind = kind or kind_of_name(files[0]) or "wds"
    if kind in ("coco", "voc", "masks"):
        raise UsageError(f"{pattern}: {kind}: takes one file or folder, not a pattern")
    if kind in ("folder", "list"):
        images = [file for file in files if kind_of_name(file) == "folder"]
        _refuse_label(pattern, choice)
        return list_entries([Entry(file) for file in images], where=pattern, folder=".")
    return _open_containers(kind, pattern, files, choice)


def _refuse_label(where: str, choice: SplitChoice) -> None:
    if choice.label is not None:
        raise SimcoreError(f"{where}: has no column '{choice.label}'; only a .csv list or Parquet has label columns")


def _open_containers(kind: str, where: str, files: Sequence[str], choice: SplitChoice) -> ImageSource:
    if not files:
        raise SimcoreError(f"{where}: holds no {SUFFIXES[kind][0]} file")
    if not is_remote(files[0]):
        files = [os.path.abspath(file) for file in files]  # noqa: PTH100
    if kind == "parquet":
        return open_parquet(where, files, _short_names(files), label=choice.label)
    _refuse_label(where, choice)
    return open_shards(where, files, _short_names(files))


def _short_names(files: Sequence[str]) -> list[str]:
    """Give the shortest trailing parts of the paths that tell the files apart, the same number of parts for all."""
    parts = [file.split("/") for file in files]
    for count in range(1, max(map(len, parts))):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(set(files)):
            return names
    return list(files)


def _of_split(files: Sequence[str], choice: SplitChoice, where: str) -> list[str]:
    """Keep the files of the wanted split, where file names ('train-0001.parquet') or folders say splits."""
    splits = [_split_of_file(file, where) for file in files]
    names = sorted({split for split in splits if split})
    if not names:
        if choice.explicit and choice.name != "all":
            raise SimcoreError(f"{where}: has no split '{choice.name}'; no file name says a split")
        return list(files)
    if choice.name == "all":
        return list(files)
    chosen = pick_split(names, choice, where)
    return [file for file, split in zip(files, splits, strict=True) if split in chosen]


def _split_of_file(file: str, where: str) -> str | None:
    below = file[len(where.rstrip("/")) + 1 :] if file.startswith(where.rstrip("/") + "/") else base_name(file)
    *folders, name = below.split("/")
    start = re.split(r"[-_.]", name, maxsplit=1)[0]
    return next((part for part in (*folders, start) if split_kind(part)), None)


def names_in(folder: str) -> list[str]:
    """Give the visible names directly in a folder."""
    if is_remote(folder):
        names = remotely(
            folder, lambda system, path: [base_name(str(n).rstrip("/")) for n in system.ls(path, detail=False)]
        )
    else:
        try:
            names = os.listdir(folder)  # noqa: PTH208
        except OSError as error:
            raise SimcoreError(f"{folder}: cannot be listed ({os_reason(error)})") from error
    return [name for name in names if not is_hidden(os.fsencode(name))]


def files_below(folder: str, suffixes: tuple[str, ...]) -> list[str]:
    """List the visible files with one of ``suffixes`` in a folder and below, in the byte order of their paths."""
    if is_remote(folder):
        found = remotely(folder, lambda system, path: list(map(system.unstrip_protocol, system.find(path))))
    else:
        found = [f"{at}/{name}" for at, _, names in os.walk(folder, followlinks=False) for name in names]
    wanted = [file for file in found if file.lower().endswith(suffixes)]
    start = len(folder.rstrip("/")) + 1
    visible = [f for f in wanted if not any(is_hidden(part) for part in os.fsencode(f[start:]).split(b"/"))]
    return sorted(visible, key=os.fsencode)
