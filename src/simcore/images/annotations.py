"""Further columns that a listing may have beside those every source has: boxes, masks, numbers of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MASK, MASK_STAMP = "mask", "mask_stamp"  # where a row's mask lies, and its size and modification stamp


def digestible(listing: pa.Table, known: Sequence[str]) -> Iterator[Any]:
    """Give what tells the further columns apart, ready to be hashed; nothing where there are none."""
    for name in listing.column_names:
        if name not in known:
            column = listing[name].combine_chunks()
            yield name
            yield column.is_valid().to_numpy(zero_copy_only=False)
            yield from _values(column)


def _values(column: pa.Array) -> Iterator[Any]:
    if pa.types.is_list(column.type):
        yield column.value_lengths().fill_null(0).to_numpy()
        values = pc.list_flatten(column)
        for field in values.type:
            yield values.field(field.name).to_numpy(zero_copy_only=False)
    elif pa.types.is_string(column.type):
        yield "\n".join(text or "" for text in column.to_pylist())
    else:
        yield np.asarray(column.fill_null(0).to_numpy(zero_copy_only=False))


def undated(listing: pa.Table) -> pa.Table:
    """Give a listing whose masks are told by their files' names and sizes, without folders and dates."""
    for name, told in ((MASK, r"^.*/"), (MASK_STAMP, r":.*$")) if MASK in listing.column_names else ():
        place = listing.column_names.index(name)
        kept = pc.replace_substring_regex(listing[name], pattern=told, replacement="")
        listing = listing.set_column(place, name, kept)
    return listing


def relabelled(listing: pa.Table, numbers: pa.Array) -> pa.Table:
    """Renumber label i of rows and boxes to ``numbers[i]``."""
    place = listing.column_names.index("label")
    listing = listing.set_column(place, "label", numbers.take(listing["label"].combine_chunks()))
    if "boxes" not in listing.column_names:
        return listing
    boxes = listing["boxes"].combine_chunks()
    values = pc.list_flatten(boxes)
    parts = [values.field(field.name) for field in values.type]
    parts[values.type.get_field_index("label")] = numbers.take(values.field("label"))
    lengths = boxes.value_lengths().fill_null(0).to_numpy()
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    moved = pa.StructArray.from_arrays(parts, fields=list(values.type))
    array = pa.ListArray.from_arrays(offsets, moved, mask=boxes.is_null())
    return listing.set_column(listing.column_names.index("boxes"), "boxes", array)
