"""Segmentation masks of a source: where they lie, and from their bytes to class numbers.

A source with masks has a column ``mask`` in its listing: the uri of the mask, null where an image has none. Masks
are read as stored: palette images as indices, never as colours, and no value is scaled.
"""

from __future__ import annotations

import dataclasses
import io
import os

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from simcore.errors import SimcoreError
from simcore.images.annotations import MASK, MASK_STAMP
from simcore.images.faults import Limits, Unreadable
from simcore.images.folder import SplitChoice, open_folder, pick_split, split_kind
from simcore.images.names import escape, unescape
from simcore.images.source import ImageSource
from simcore.images.storage import is_remote, read_bytes, stamp_of

INDEXED = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")
MASK_ENDINGS = (".png", ".bmp", ".tif", ".tiff", ".gif")


def decode_mask(data: bytes, limits: Limits) -> npt.NDArray[np.integer]:
    """Read a mask as stored: [H, W] of values, or uint8 [H, W, 3] of colours; raises ``Unreadable``, ``Refused``."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            limits.check_shape(*picture.size)
            if picture.format in ("JPEG", "WEBP"):
                raise Unreadable(f"a mask stored as {picture.format}, which alters its values")
            if picture.mode in INDEXED:
                values = np.asarray(picture)
                return values.astype(np.uint8) if picture.mode == "1" else values.astype(np.int64)
            if picture.mode == "LA":
                return np.asarray(picture)[..., 0].astype(np.int64)
            return np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Unreadable(f"damaged mask ({' '.join(str(error).split())[:100]})") from error


def has_masks(source: ImageSource) -> bool:
    """Tell whether any image may have a mask."""
    return MASK in source.listing.column_names


def masked_rows(source: ImageSource) -> npt.NDArray[np.int64]:
    """Give the rows that have a mask."""
    if not has_masks(source):
        return np.zeros(0, np.int64)
    return np.flatnonzero(pc.is_valid(source.listing[MASK]).to_numpy(zero_copy_only=False))


def mask_uri(source: ImageSource, row: int) -> str:
    """Say where the mask of one row lies."""
    return str(source.listing[MASK][row].as_py())


def read_mask(source: ImageSource, row: int) -> npt.NDArray[np.integer]:
    """Read the mask of one row as stored; raises ``Unreadable`` or ``Refused``."""
    try:
        return decode_mask(read_bytes(mask_uri(source, row)), source.limits)
    except Unreadable as fault:
        raise Unreadable(fault.reason if "mask" in fault.reason else f"its mask: {fault.reason}") from fault


def with_masks(source: ImageSource, paths: list[str | None], classes: tuple[str, ...] = ()) -> ImageSource:
    """Give the source with the (unescaped, local or remote) path of each row's mask; ``classes`` say their code."""
    uris = pa.array([None if path is None else escape(path) for path in paths], pa.string())
    stamps = pa.array([_stamp(path) for path in paths], pa.string())
    listing = source.listing.append_column(MASK, uris).append_column(MASK_STAMP, stamps)
    return dataclasses.replace(source, listing=listing, mask_classes=classes)


def _stamp(path: str | None) -> str | None:
    try:
        return None if path is None or is_remote(path) else ":".join(map(str, stamp_of(path)))
    except Unreadable:
        return "missing"


def open_masked_folder(place: str, choice: SplitChoice) -> ImageSource:
    """Open ``images/`` with ``masks/`` beside it, of equal names but for the ending; perhaps below split folders."""
    if not _is_pair(place):
        splits = sorted(name for name in os.listdir(place) if split_kind(name) and _is_pair(f"{place}/{name}"))  # noqa: PTH208
        if not splits:
            raise SimcoreError(f"{place}: holds no images/ and masks/ beside each other, nor split folders of those")
        pairs = [_open_pair(f"{place}/{name}") for name in pick_split(splits, choice, place)]
        whole = pairs[0]
        for pair in pairs[1:]:
            whole = whole + pair
        return whole
    if choice.explicit and choice.name != "all":
        raise SimcoreError(f"{place}: has no split '{choice.name}'; it holds images/ and masks/ themselves")
    return _open_pair(place)


def _is_pair(place: str) -> bool:
    return os.path.isdir(f"{place}/images") and os.path.isdir(f"{place}/masks")  # noqa: PTH112


def _open_pair(place: str) -> ImageSource:
    source = open_folder(f"{place}/images", SplitChoice("all"))
    stems = [unescape(name).rpartition(".")[0] for name in source.table["id"].to_pylist()]
    return with_masks(source, [mask_beside(f"{place}/masks/{stem}") for stem in stems])


def mask_beside(stem: str) -> str | None:
    """Find the mask whose path without ending this is."""
    return next((stem + end for end in MASK_ENDINGS if os.path.isfile(stem + end)), None)  # noqa: PTH113
