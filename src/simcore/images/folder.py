"""Folders of images: flat, one folder per class, or split folders (train, test …) of either."""

from __future__ import annotations

import dataclasses
import os
import re

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from simcore.errors import SimcoreError
from simcore.images.names import escape
from simcore.images.single_files import FileReader
from simcore.images.source import ImageSource, SourceNotes, listing_of
from simcore.images.storage import is_remote
from simcore.images.tree import Tree
from simcore.images.walk import walk

# How split folders and split files are called; 'train2017' and 'test_images' count too.
SPLIT_NAME = re.compile(
    r"(?:(?P<train>train|training|trainval)|(?P<val>val|valid|validation|dev)|(?P<test>test|testing))"
    r"(?:\d{4}(?:_\w+)?|[-_]?(?:set|data|images|imgs))?",
    re.IGNORECASE,
)


class NoImagesError(SimcoreError):
    """A folder without an image."""


@dataclasses.dataclass(frozen=True)
class SplitChoice:
    """Which split is wanted, and whether the user named it: then it must exist; and which column is the label."""

    name: str = "train"
    explicit: bool = False
    label: str | None = None


def split_kind(name: str) -> str | None:
    """Tell which split (train, val or test) a folder's name means; None for any other name.

    >>> split_kind("train2017"), split_kind("validation"), split_kind("train station")
    ('train', 'val', None)
    """
    match = SPLIT_NAME.fullmatch(name)
    return match.lastgroup if match else None


def pick_split(names: list[str], choice: SplitChoice, where: str) -> list[str]:
    """Choose among the split names present: the very name first, then its kind; ``val`` stands in for ``test``."""
    wanted = choice.name
    if wanted == "all":
        return names
    if wanted in names:
        return [wanted]
    kinds = [split_kind(wanted) or wanted] + (["val"] if wanted == "test" and not choice.explicit else [])
    for kind in kinds:
        if same := [name for name in names if split_kind(name) == kind]:
            return same[:1]
    raise SimcoreError(f"{where}: has no split '{wanted}'; it has {', '.join(names)} (choose with '#split=NAME')")


def open_folder(where: str, choice: SplitChoice) -> ImageSource:
    """List a folder. The class of an image is the first folder below the root (or below its split folder)."""
    tree = walk(where)
    if not len(tree.ids):
        raise NoImagesError(f"{where}: no images in it{_passed_over(tree)}")
    tops = np.array([folder.partition("/")[0] for folder in tree.folders], object)
    counts = np.bincount(tree.folder_of, minlength=len(tree.folders))
    splits = _split_folders(tops, counts, choice)
    if choice.explicit and choice.name != "all" and not splits:
        raise SimcoreError(f"{where}: has no split '{choice.name}'; it holds no split folders")
    chosen = pick_split(splits, choice, where) if splits else []
    classes, class_of = _classes(tree, splits, counts)
    inside = np.isin(tops, chosen) if splits else np.ones(len(tops), bool)
    rows = np.flatnonzero(inside[tree.folder_of])
    labels = class_of[tree.folder_of[rows]]
    ids = tree.ids.combine_chunks().take(pa.array(rows))
    root = (where if is_remote(where) else escape(os.path.abspath(where))).rstrip("/")  # noqa: PTH100 - may be bytes
    return ImageSource(
        name=where,
        classes=classes,
        listing=listing_of(
            ids=ids,
            uris=pc.binary_join_element_wise(pa.scalar(root), ids, "/"),
            labels=pa.array(labels, mask=labels < 0),
            firsts=tree.sizes[rows],
            seconds=tree.stamps[rows],
        ),
        readers=(FileReader(),),
        notes=_notes(tree, inside, chosen, counts),
    )


def _split_folders(tops: npt.NDArray[np.object_], counts: npt.NDArray[np.int64], choice: SplitChoice) -> list[str]:
    """Find the top folders that are splits.

    They are, if every folder with images is called like one, or if there are a train and another split; 'train'
    among buses and trucks is a class. Images beside the folders mean that there are no splits. A folder that the
    user names as the split is one, whatever it is called.
    """
    holding = sorted({str(top) for top, count in zip(tops, counts, strict=True) if count}, key=os.fsencode)
    named = [top for top in holding if split_kind(top)]
    kinds = {split_kind(top) for top in named}
    if "" in holding or not named or (len(named) < len(holding) and not (len(kinds) > 1 and "train" in kinds)):
        return [choice.name] if choice.explicit and choice.name in holding else []
    return named


def _classes(
    tree: Tree, splits: list[str], counts: npt.NDArray[np.int64]
) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """Give the class names and each folder's class number (-1 for none).

    Classes of the train split come first, so that its numbers are the same whether it is opened alone or not;
    what only other splits have follows. Empty folders take no number.
    """
    names = [_class_name(folder, splits) for folder in tree.folders]
    order: list[str | None] = [None]
    if splits:
        order = [*sorted(splits, key=lambda split: (split_kind(split) != "train", os.fsencode(split)))]
    known: dict[str, int] = {}
    for split in order:
        there = {
            name
            for folder, name, count in zip(tree.folders, names, counts, strict=True)
            if count and name and (split is None or folder.partition("/")[0] == split)
        }
        for name in sorted(there, key=_original_bytes):
            known.setdefault(name, len(known))
    numbers = np.array([known.get(name, -1) for name in names], np.int64)
    return tuple(known), numbers


def _class_name(folder: str, splits: list[str]) -> str:
    top, _, below = folder.partition("/")
    return below.partition("/")[0] if top in splits else top if not splits else ""


def _original_bytes(name: str) -> bytes:
    from simcore.images.names import unescape

    return os.fsencode(unescape(name))


def _notes(tree: Tree, inside: npt.NDArray[np.bool_], chosen: list[str], counts: npt.NDArray[np.int64]) -> SourceNotes:
    images: dict[str, int] = {}
    others: dict[str, int] = {}
    for number in np.flatnonzero(inside).tolist():
        name = _class_name(tree.folders[number], chosen)
        images[name] = images.get(name, 0) + int(counts[number])
        others[name] = others.get(name, 0) + int(tree.num_others[number])
    return SourceNotes(
        num_hidden=tree.num_hidden,
        num_other=int(tree.num_others[inside].sum()),
        incomplete=tree.incomplete,
        empty_classes=tuple(name for name in images if name and not images[name] and not others[name]),
        remarks=tree.remarks,
    )


def _passed_over(tree: Tree) -> str:
    """Say what there was instead."""
    others = int(tree.num_others.sum())
    return f" ({tree.num_hidden:,} hidden and {others:,} other files passed over)" if tree.num_hidden + others else ""
