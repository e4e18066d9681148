"""COCO annotations: one JSON file of images, categories (ids of any integers) and boxes ``[x, y, width, height]``."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from simcore.artifacts.files import parse_json
from simcore.errors import SimcoreError
from simcore.images.boxes import COLUMN, FoundBox, box_column
from simcore.images.faults import Unreadable
from simcore.images.names import escape
from simcore.images.path_list import Entry, list_entries
from simcore.images.source import ImageSource
from simcore.images.storage import folder_of, is_remote, join, read_bytes

IMAGE_ID = "image_id"
LOOKED_FOR = 20


def open_coco(where: str) -> ImageSource:
    """Open the images of a COCO JSON file with their boxes.

    The images lie beside the file, in ``images/`` beside it or one folder above, or in the folder that its name
    ends in (``instances_train2017.json``: ``../train2017``), whichever holds one of the first. An image without
    annotations shows no object; crowds are kept as such. Boxes are clipped to the size that the file tells of their
    image.
    """
    content = _read(where)
    images, categories = _table(content, "images", where), _table(content, "categories", where)
    names = _names(categories, where)
    entries = [Entry(_text(image, "file_name", where)) for image in images]
    plain = list_entries(entries, where=where, folder=_image_folder(where, entries))
    ids = [_integer(image, "id", where) for image in images]
    if len(set(ids)) != len(images) or len(plain) != len(images):
        raise SimcoreError(f"{where}: names an image twice, or two images by one id")
    found = _boxes(_table(content, "annotations", where), ids, {number: i for i, number in enumerate(names)}, where)
    column = box_column(found, [_size(image) for image in images])
    listing = plain.listing.append_column(COLUMN, column.array).append_column(IMAGE_ID, pa.array(ids, pa.int64()))
    notes = dataclasses.replace(plain.notes, remarks=(column.remark,) if column.remark else ())
    return dataclasses.replace(
        plain, listing=listing, classes=tuple(names.values()), category_ids=tuple(names), notes=notes
    )


def _read(where: str) -> Mapping[str, Any]:
    try:
        content = parse_json(read_bytes(where if is_remote(where) else escape(where)))
    except Unreadable as fault:
        raise SimcoreError(f"{where}: cannot be read ({fault.reason})") from fault
    except ValueError as error:
        raise SimcoreError(f"{where}: not a JSON file ({error})") from error
    if not isinstance(content, dict):
        raise SimcoreError(f"{where}: not COCO annotations (no images, annotations and categories in it)")
    return content


def _table(content: Mapping[str, Any], name: str, where: str) -> Sequence[Mapping[str, Any]]:
    table = content.get(name)
    if not isinstance(table, list) or not all(isinstance(entry, dict) for entry in table):
        raise SimcoreError(f"{where}: not COCO annotations (no list '{name}' in it)")
    return table


def _text(entry: Mapping[str, Any], key: str, where: str) -> str:
    if not isinstance(entry.get(key), str):
        raise SimcoreError(f"{where}: an image has no {key}: {_shown(entry)}")
    return str(entry[key])


def _integer(entry: Mapping[str, Any], key: str, where: str) -> int:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        raise SimcoreError(f"{where}: {key} is no integer in {_shown(entry)}")
    return value


def _shown(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry)[:100]


def _names(categories: Sequence[Mapping[str, Any]], where: str) -> dict[int, str]:
    """Give the names by id in order of the ids, made distinct where two categories are called the same."""
    by_id = {_integer(category, "id", where): str(category.get("name", "")) for category in categories}
    if len(by_id) != len(categories):
        raise SimcoreError(f"{where}: two categories have one id")
    seen = list(by_id.values())
    return {n: by_id[n] if by_id[n] and seen.count(by_id[n]) == 1 else f"{by_id[n]} {n}".strip() for n in sorted(by_id)}


def _boxes(
    annotations: Sequence[Mapping[str, Any]], ids: Sequence[int], number_of: Mapping[int, int], where: str
) -> list[list[FoundBox]]:
    place = {number: row for row, number in enumerate(ids)}
    found: list[list[FoundBox]] = [[] for _ in ids]
    for entry in annotations:
        image, category = _integer(entry, "image_id", where), _integer(entry, "category_id", where)
        if image not in place or category not in number_of:
            missing = f"image {image}" if image not in place else f"category {category}"
            raise SimcoreError(f"{where}: an annotation names {missing}, which is not in the file: {_shown(entry)}")
        found[place[image]].append(
            FoundBox(
                _edges(entry, where), number_of[category], bool(entry.get("iscrowd")), f"annotation {entry.get('id')}"
            )
        )
    return found


def _edges(entry: Mapping[str, Any], where: str) -> tuple[float, float, float, float]:
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(edge, int | float) for edge in box):
        raise SimcoreError(f"{where}: bbox is not [x, y, width, height] in {_shown(entry)}")
    left, top, width, height = map(float, box)
    return left, top, left + width, top + height


def _size(image: Mapping[str, Any]) -> tuple[float, float] | None:
    sides = image.get("width"), image.get("height")
    return (float(sides[0]), float(sides[1])) if all(isinstance(s, int) and s > 0 for s in sides) else None  # type: ignore[arg-type]


def _image_folder(where: str, entries: Sequence[Entry]) -> str:
    """Find the folder in which one of the first images lies."""
    home = folder_of(where)
    if is_remote(where) or not entries:
        return home
    last = PurePosixPath(where).stem.rpartition("_")[2]
    places = [
        home,
        join(home, "images"),
        join(home, last),
        *(join(home, f"../{name}") for name in ("", "images", last)),
    ]
    for place in places:
        if any(os.path.isfile(join(place, entry.path)) for entry in entries[:LOOKED_FOR]):  # noqa: PTH113
            return os.path.normpath(place)
    raise SimcoreError(f"{where}: its image '{entries[0].path}' lies neither beside it nor in images/ or {last}/")
