"""From the official archive of a named data set to a source."""

from __future__ import annotations

import dataclasses
import fnmatch
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from simcore.artifacts.files import read_json, write_json
from simcore.datasets._archives import extract, is_archive
from simcore.datasets._dataset import Dataset, Row
from simcore.datasets._manifest import Copies, Lists, Tally, kept_rows
from simcore.datasets._tree import Tree
from simcore.errors import SimcoreError, SimcoreWarning, UsageError
from simcore.images import open_images
from simcore.images.whole_folder import whole_folder
from simcore.progress import Progress
from simcore.registry import find, name_of
from simcore.settings import as_dict, suggest

StrPath: TypeAlias = str | os.PathLike[str]

FORMAT = 1
FORMAT_OF_COPIES = 2  # in 1 the lists lay in a folder of their own, from which their paths led nowhere
NOTE = "dataset.json"
UNPACKED = "unpacked"
TELL_EVERY = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """What a preparation left.

    Attributes:
        name: of the data set.
        out: the folder; it opens as a source with splits.
        num_images: kept images by split.
        num_classes: over all splits; 0 for a set without labels.
        left_out: images of the official lists that are not in the source, by reason.
        differences: where the counts depart from those of the published experiments, one sentence each.
        done_before: whether the same preparation was already there and nothing was done.
    """

    name: str
    out: Path
    num_images: Mapping[str, int]
    num_classes: int
    left_out: Mapping[str, int]
    differences: tuple[str, ...]
    done_before: bool = False

    def to_json(self) -> dict[str, Any]:
        """Everything, ready for ``json.dumps``."""
        return {
            "dataset": self.name,
            "out": str(self.out),
            "num_images": dict(self.num_images),
            "num_classes": self.num_classes,
            "left_out": dict(self.left_out),
            "differences": list(self.differences),
            "done_before": self.done_before,
        }


def prepare(
    dataset: str | Dataset | Any,
    *,
    archive: StrPath | Sequence[StrPath] = (),
    out: StrPath,
    copy: bool = False,
    attribute: str | None = None,
    quiet: bool = False,
) -> Prepared:
    """Make a source of a data set as its makers publish it.

    ``archive`` is the folder (unpacked, or with the archives as downloaded) or the archive files. ``out`` gets one
    list a split (``train.csv``, ``test.csv``) that points at the images; only what had to be unpacked lies below it.
    With ``copy`` the lists point at copies below ``out``, in class folders (``train/CLASS/…``, masks below ``masks/``)
    for programs that want those. Opened as a source both are the same: labels, attributes, boxes and masks come from
    the lists. ``attribute`` makes another column the label.

    Counts that differ from the published ones are told by one ``SimcoreWarning``. The folder comes whole or not at
    all; where the same preparation is already there, nothing is done.

    Raises ``SimcoreError`` where files are missing, an archive is damaged or unsafe, or ``out`` holds something else.
    """
    chosen = find("datasets", dataset)() if isinstance(dataset, str) else dataset
    sources = [Path(one).absolute() for one in ([archive] if isinstance(archive, str | os.PathLike) else archive)]
    place = Path(out)
    if not isinstance(chosen, Dataset):
        return _draw(chosen, place)
    label = _attribute(chosen, attribute)
    request = _request(chosen, sources, copy, label)
    if (place / NOTE).is_file():
        return _done_before(place, request)
    with whole_folder(place) as folder:
        tree = _tree(chosen, sources, folder / UNPACKED, quiet)
        tally = _write(chosen, tree, folder, copy, label, quiet)
        note = _note(chosen, request, tally, label)
        write_json(folder / NOTE, note)
    _warn(note)
    return _prepared(place, note)


def _attribute(dataset: Dataset, wanted: str | None) -> str | None:
    """Find an attribute by its name or by the only one that begins with it."""
    if wanted is None:
        return None
    begins = [name for name in dataset.attributes if name.startswith(wanted.lower())]
    if wanted.lower() in dataset.attributes or len(begins) == 1:
        return wanted.lower() if wanted.lower() in dataset.attributes else begins[0]
    if not dataset.attributes:
        raise UsageError(f"{name_of(dataset)} has no attributes to choose from")
    raise UsageError(f"{name_of(dataset)} has no attribute '{wanted}'{suggest(wanted, dataset.attributes)}")


def _request(dataset: Dataset, sources: Sequence[Path], copy: bool, attribute: str | None) -> dict[str, Any]:
    """Say what was asked for, so that the same can be told from another."""
    return {
        "format": FORMAT_OF_COPIES if copy else FORMAT,
        "dataset": name_of(dataset),
        "settings": as_dict(dataset),
        "attribute": attribute,
        "copy": copy,
        "sources": [_stamp(source) for source in sources],
    }


def _stamp(source: Path) -> list[Any]:
    try:
        state = source.stat()
    except OSError as error:
        raise SimcoreError(f"{source}: no such file or folder") from error
    return [str(source)] if source.is_dir() else [str(source), state.st_size, state.st_mtime_ns]


def _done_before(place: Path, request: dict[str, Any]) -> Prepared:
    note = read_json(place / NOTE)
    if {key: note.get(key) for key in request} != request:
        raise SimcoreError(f"{place}: holds another preparation; remove it or choose another place")
    _warn(note)
    return dataclasses.replace(_prepared(place, note), done_before=True)


def _tree(dataset: Dataset, sources: Sequence[Path], unpacked: Path, quiet: bool) -> Tree:
    """Find the files, unpacking archives where the files themselves are not there."""
    hint = f"; {name_of(dataset)} is published as {dataset.published}; see {dataset.home}"
    if not sources:
        raise UsageError(f"{name_of(dataset)} needs --archive{hint}")
    folders = [source for source in sources if source.is_dir()]
    files = [source for source in sources if not source.is_dir()]
    beside = sorted({file.parent for file in files})
    archives = [file for file in files if is_archive(file)]
    if folders and not dataset.is_unpacked(Tree(folders, beside=beside)):
        archives += [path for folder in folders for path in _archives_in(folder, dataset.archives)]
    for archive in archives:
        extract(archive, unpacked, wants=dataset.wants, shelf=dataset.shelf, quiet=quiet)
    roots = [unpacked] * unpacked.is_dir() + folders
    return Tree(roots, beside=beside, called=" ".join(map(str, sources)), hint=hint)


def _archives_in(folder: Path, patterns: Sequence[str]) -> list[Path]:
    names = sorted(path for path in folder.iterdir() if path.is_file() and is_archive(path))
    return [path for path in names if any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns)]


def _write(dataset: Dataset, tree: Tree, folder: Path, copy: bool, label: str | None, quiet: bool) -> Tally:
    """Write the lists, and the copies where they are asked for."""
    tally, copies = Tally(), Copies(folder, folder / UNPACKED)
    with Lists(dataset, folder) as writer:
        for row in _told(kept_rows(dataset, dataset.rows(tree), label, tally), dataset, quiet):
            writer.add(copies.add(row) if copy else row)
    if not tally.kept:
        why = "; ".join(f"{number:,} {reason}" for reason, number in tally.left_out.items())
        first = next((f": {shown[0]}" for shown in tally.examples.values()), "")
        why = f" ({why}{first})" if why else tree.hint
        raise SimcoreError(f"{tree.called}: no images of {name_of(dataset)} there{why}")
    if copy:
        shutil.rmtree(folder / UNPACKED, ignore_errors=True)
    return tally


def _told(rows: Iterator[Row], dataset: Dataset, quiet: bool) -> Iterator[Row]:
    total = (dataset.num_train or 0) + (dataset.num_test or 0)
    with Progress(f"prepare {name_of(dataset)}", total=total, quiet=quiet) as progress:
        for number, row in enumerate(rows, start=1):
            yield row
            if number % TELL_EVERY == 0:
                progress.advance(TELL_EVERY)


def _note(dataset: Dataset, request: dict[str, Any], tally: Tally, label: str | None) -> dict[str, Any]:
    note = {
        **request,
        "title": dataset.title,
        "licence": dataset.licence,
        "home": dataset.home,
        "metric": dataset.metric,
        "num_images": tally.num_images,
        "num_classes": len(tally.classes),
        "images_per_class": {
            split: {name: counts[name] for name in tally.classes if counts[name]}
            for split, counts in tally.kept.items()
        },
        "left_out": dict(tally.left_out),
        "left_out_examples": tally.examples,
        "differences": _differences(dataset, tally, label),
    }
    if dataset.has_boxes:
        note["boxes"] = "left top right bottom in pixels from 0, right and bottom just outside; ';' between boxes"
    if dataset.mask_values:
        note["mask"] = dataset.mask_values
        note["mask_classes"] = list(dataset.mask_classes)
    return note


def _differences(dataset: Dataset, tally: Tally, label: str | None) -> list[str]:
    """Compare with the published counts; images that only lack the chosen attribute are not missing."""
    classes = dataset.num_classes if label is None else dataset.attributes[label]
    found = {split: tally.num_images.get(split, 0) + tally.without_label[split] for split in ("train", "test")}
    pairs = [
        ("classes", len(tally.classes), classes),
        ("training images", found["train"], dataset.num_train),
        ("test images", found["test"], dataset.num_test),
    ]
    return [f"{n:,} {what} instead of {known:,}" for what, n, known in pairs if known is not None and n != known]


def _warn(note: Mapping[str, Any]) -> None:
    left_out = [f"{number:,} left out ({reason})" for reason, number in note["left_out"].items()]
    if note["differences"]:
        parts = "; ".join([*note["differences"], *left_out])
        warnings.warn(f"{note['dataset']}: differs from the published set: {parts}", SimcoreWarning, stacklevel=3)


def _prepared(place: Path, note: Mapping[str, Any]) -> Prepared:
    return Prepared(
        name=note["dataset"],
        out=place,
        num_images=note["num_images"],
        num_classes=note["num_classes"],
        left_out=note["left_out"],
        differences=tuple(note["differences"]),
    )


def _draw(maker: Any, place: Path) -> Prepared:
    """Let a set that the program makes itself write its files."""
    request = {"format": FORMAT, "dataset": name_of(maker), "settings": as_dict(maker)}
    if (place / NOTE).is_file():
        return _done_before(place, request)
    with whole_folder(place) as folder:
        sources = dataclasses.asdict(maker.write(folder))
        counts = {name: len(open_images(source)) for name, source in sources.items()}
        note = {**request, "licence": maker.licence, "num_images": counts, "num_classes": 0}
        write_json(folder / NOTE, {**note, "left_out": {}, "differences": []})
    return _prepared(place, read_json(place / NOTE))
