"""Copy chosen images out, byte for byte and in pick order, with where they came from and why they were chosen."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from simcore.artifacts.files import write_json
from simcore.errors import SimcoreError, SimcoreWarning, UsageError
from simcore.images.decode import decode
from simcore.images.export_files import FolderWriter, Item, ShardWriter, TableWriter, Writer
from simcore.images.faults import ImageFault
from simcore.images.spool import read_in_order
from simcore.images.whole_folder import whole_folder
from simcore.progress import Progress
from simcore.settings import suggest

if TYPE_CHECKING:
    from simcore.artifacts import Selection
    from simcore.images.source import ImageSource

Format = Literal["folder", "wds", "parquet"]

SUMMARY = ".export.json"  # hidden: other libraries take every visible file of a folder for data
SHARD_BYTES = 1 << 30
EXTENSIONS: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "jpg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"II*\0", "tif"),
    (b"MM\0*", "tif"),
)
EXTENSION_OF_FORMAT = {"JPEG": "jpg", "TIFF": "tif", "JPEG2000": "jp2", "HEIF": "heic"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportSummary:
    """What an export left.

    Attributes:
        out: the folder.
        source: what to give to ``open_images`` to get the same images in the same order.
        num_images, num_bytes, num_files: images written, their bytes, and files holding them.
        unreadable: images that could not be read, as (id, reason).
    """

    out: Path
    source: str
    format: Format
    num_images: int
    num_bytes: int
    num_files: int
    unreadable: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Everything, ready for ``json.dumps``."""
        named = [{"id": name, "reason": reason} for name, reason in self.unreadable]
        return {**dataclasses.asdict(self), "out": str(self.out), "unreadable": named, "num_unreadable": len(named)}


def export_images(
    images: ImageSource,
    selection: Selection | None = None,
    *,
    out: str | os.PathLike[str],
    format: Format = "folder",
    shard_bytes: int = SHARD_BYTES,
    quiet: bool = False,
) -> ExportSummary:
    """Copy the picks of ``selection`` (or all of ``images``) into the new folder ``out``.

    - ``folder``: one folder per class (none where there are no labels), names that begin with the rank, and
      ``manifest.csv``, which opens as a list in pick order.
    - ``wds``: tar shards of at most about ``shard_bytes``: ``KEY.jpg``, ``KEY.cls`` (class number), ``KEY.json``.
    - ``parquet``: the Hugging Face image layout, files of at most about ``shard_bytes``, 1,000 rows a row group.

    Equal input gives equal bytes. ``out`` comes whole or not at all. Images that cannot be read are left out, told
    by one ``SimcoreWarning`` and named in the summary and in ``.export.json``.

    Raises ``SimcoreError`` where ``out`` exists, no image can be read or a pick is not in ``images``.
    """
    if format not in get_args(Format):
        raise UsageError(f"no export format is called '{format}'{suggest(format, get_args(Format))}")
    if shard_bytes < 1:
        raise UsageError(f"shard_bytes must be at least 1, not {shard_bytes}")
    chosen = images if selection is None else images.take(selection)
    place = Path(out)
    faults: list[tuple[str, str]] = []
    with whole_folder(place) as folder:
        with contextlib.closing(_writer(format, folder, chosen, shard_bytes)) as writer:
            for item in _told(_items(chosen, selection, faults, folder), len(chosen), quiet):
                writer.put(item)
            writer.finish()
        if not writer.num_images:
            raise SimcoreError(f"{chosen.name}: none of its {len(chosen):,} images can be read ({_first(faults)})")
        summary = ExportSummary(
            out=place,
            source=str(place / writer.source) if writer.source else str(place),
            format=format,
            num_images=writer.num_images,
            num_bytes=writer.num_bytes,
            num_files=writer.num_files,
            unreadable=tuple(faults),
        )
        write_json(folder / SUMMARY, _recorded(summary, images, selection))
    if faults:
        warnings.warn(
            f"{chosen.name}: {len(faults):,} images left out ({_first(faults)})", SimcoreWarning, stacklevel=2
        )
    return summary


def _recorded(summary: ExportSummary, images: ImageSource, selection: Selection | None) -> dict[str, Any]:
    """Say what was written and from what; nothing in it depends on where the folder lies."""
    content = {key: value for key, value in summary.to_json().items() if key not in ("out", "source")}
    content["images"] = {"name": images.name, "fingerprint": images.fingerprint}
    if selection is not None:
        content["selection"] = {"fingerprint": selection.fingerprint, "settings": dict(selection.settings)}
    return content


def _first(faults: list[tuple[str, str]]) -> str:
    return "; ".join(f"{name}: {reason}" for name, reason in faults[:3]) + ("; …" if len(faults) > 3 else "")


def _items(
    images: ImageSource, selection: Selection | None, faults: list[tuple[str, str]], scratch: Path
) -> Iterator[Item]:
    """Read the images in order; those that are no images are noted in ``faults``."""
    ids, uris, labels = (images.table[name] for name in ("id", "uri", "label"))
    for row, data in read_in_order(images, scratch):
        try:
            if isinstance(data, ImageFault):
                raise data
            extension = extension_of(data)
        except ImageFault as fault:
            faults.append((ids[row].as_py(), fault.reason))
            continue
        label = labels[row].as_py()
        name = None if label is None else images.classes[label]
        picked = _pick(selection, row)
        assert isinstance(data, bytes)
        yield Item(data, extension, ids[row].as_py(), uris[row].as_py(), row, *picked, label, name)


def _pick(selection: Selection | None, row: int) -> tuple[float | None, int | None, int | None]:
    if selection is None:
        return None, None, None
    similarity = float(selection.similarities[row])
    known = None if math.isnan(similarity) else similarity
    return known, int(selection.rounds[row]), int(selection.clusters[row])


def _told(items: Iterator[Item], total: int, quiet: bool) -> Iterator[Item]:
    with Progress("export", total=total, quiet=quiet) as progress:
        for item in items:
            yield item
            progress.advance()


def extension_of(data: bytes) -> str:
    """Name the file ending that fits the content; raises ``Unreadable`` where it is no image.

    Formats without a plain signature are decoded to find out.
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    for signature, extension in EXTENSIONS:
        if data.startswith(signature):
            return extension
    format = decode(data).format
    return EXTENSION_OF_FORMAT.get(format, format.lower())


def _writer(format: Format, folder: Path, images: ImageSource, shard_bytes: int) -> Writer:
    if format == "wds":
        return ShardWriter(folder, shard_bytes, images.classes, width=_width(images))
    if format == "parquet":
        return TableWriter(folder, shard_bytes, images.classes)
    return FolderWriter(folder, width=_width(images))


def _width(images: ImageSource) -> int:
    """Digits of a rank, so that names sort in pick order."""
    return max(6, len(str(len(images))))
