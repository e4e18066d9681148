"""Pascal VOC annotations: one XML file an image, with boxes counted from 1."""

from __future__ import annotations

import dataclasses
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from simcore.errors import SimcoreError
from simcore.images.boxes import COLUMN, FoundBox, box_column
from simcore.images.folder import SplitChoice, pick_split
from simcore.images.formats import IMAGE_EXTENSIONS
from simcore.images.masks import mask_beside, with_masks
from simcore.images.path_list import Entry, list_entries
from simcore.images.source import ImageSource

IMAGES, ANNOTATIONS, MASKS, SETS = "JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Main"
EDGES = ("xmin", "ymin", "xmax", "ymax")
MAX_XML_BYTES = 1 << 22


class _Scene(NamedTuple):
    """One annotation file; a mark of ``difficult`` counts as a crowd."""

    image: str
    size: tuple[float, float] | None
    objects: list[tuple[tuple[float, float, float, float], str, bool]]


def looks_like_voc(names: Sequence[str]) -> bool:
    """Tell by the names in a folder."""
    return IMAGES in names and ANNOTATIONS in names


def open_voc(place: str, choice: SplitChoice) -> ImageSource:
    """Open a folder in the layout of VOC (``JPEGImages/``, ``Annotations/``), or of images with XML files beside them.

    ``ImageSets/Main/NAME.txt`` say the splits; ``trainval`` is a split like any other. Edges are turned to counting
    from 0. Masks of ``SegmentationClass/`` are taken along.
    """
    home = Path(place)
    is_voc = (home / ANNOTATIONS).is_dir()
    files = _of_split(home, sorted((home / ANNOTATIONS if is_voc else home).glob("*.xml")), choice)
    if not files:
        raise SimcoreError(f"{place}: holds no .xml file of annotations")
    scenes = [_scene(file, home, is_voc) for file in files]
    plain = list_entries([Entry(scene.image) for scene in scenes], where=place, folder=place)
    if len(plain) != len(scenes):
        raise SimcoreError(f"{place}: two annotation files tell of one image")
    classes = tuple(sorted({name for scene in scenes for _, name, _ in scene.objects}))
    found = [
        [FoundBox(edges, classes.index(name), crowd, scene.image) for edges, name, crowd in scene.objects]
        for scene in scenes
    ]
    column = box_column(found, [scene.size for scene in scenes])
    notes = dataclasses.replace(plain.notes, remarks=(column.remark,) if column.remark else ())
    listing = plain.listing.append_column(COLUMN, column.array)
    source = dataclasses.replace(plain, listing=listing, classes=classes, notes=notes)
    masks = [mask_beside(f"{place}/{MASKS}/{file.stem}") for file in files]
    return with_masks(source, masks) if any(masks) else source


def _of_split(home: Path, files: list[Path], choice: SplitChoice) -> list[Path]:
    lists = sorted(path.stem for path in (home / SETS).glob("*.txt") if "_" not in path.stem)
    if not lists:
        if choice.explicit and choice.name != "all":
            raise SimcoreError(f"{home}: has no split '{choice.name}'; it has no {SETS}/*.txt")
        return files
    if choice.name == "all":
        return files
    chosen = pick_split(lists, choice, str(home))[0]
    wanted = [
        line.split()[0] for line in (home / SETS / f"{chosen}.txt").read_text("utf-8").splitlines() if line.strip()
    ]
    known = {file.stem: file for file in files}
    lost = next((name for name in wanted if name not in known), None)
    if lost is not None:
        raise SimcoreError(f"{home}: {SETS}/{chosen}.txt names '{lost}', which has no annotation file")
    return [known[name] for name in wanted]


def _scene(file: Path, home: Path, is_voc: bool) -> _Scene:
    root = _root(file)
    folder = home / IMAGES if is_voc else home
    size = _size(root)
    objects = [_object(entry, file) for entry in root.iter("object")]
    return _Scene(os.path.relpath(_image(root, file, folder), home), size, objects)


def _root(file: Path) -> ElementTree.Element:
    try:
        data = file.read_bytes()
        if len(data) > MAX_XML_BYTES or b"<!ENTITY" in data:  # no annotation needs either
            raise SimcoreError(f"{file}: not an annotation file of one image")
        return ElementTree.fromstring(data)
    except (OSError, ElementTree.ParseError) as error:
        raise SimcoreError(f"{file}: cannot be read as XML ({error})") from error


def _image(root: ElementTree.Element, file: Path, folder: Path) -> Path:
    """Find the image that a file tells of: by the name in it, else by its own."""
    named = folder / Path((root.findtext("filename") or "").strip()).name
    if named.is_file():
        return named
    beside = (folder / f"{file.stem}.{ending}" for ending in ("jpg", *sorted(IMAGE_EXTENSIONS)))
    return next((path for path in beside if path.is_file()), named if named.name else folder / f"{file.stem}.jpg")


def _size(root: ElementTree.Element) -> tuple[float, float] | None:
    try:
        width, height = (float(root.findtext(f"size/{side}") or 0) for side in ("width", "height"))
    except ValueError:
        return None
    return (width, height) if width > 0 and height > 0 else None


def _object(entry: ElementTree.Element, file: Path) -> tuple[tuple[float, float, float, float], str, bool]:
    name = (entry.findtext("name") or "").strip()
    try:
        left, top, right, bottom = (float(entry.findtext(f"bndbox/{edge}") or "") for edge in EDGES)
    except ValueError as error:
        raise SimcoreError(f"{file}: an object has no bndbox of {', '.join(EDGES)}") from error
    if not name:
        raise SimcoreError(f"{file}: an object has no name")
    difficult = (entry.findtext("difficult") or "0").strip() not in ("0", "")
    return (left - 1, top - 1, right, bottom), name, difficult
