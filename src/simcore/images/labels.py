"""From labels as found (text, numbers, both, none) to class numbers and names."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# Integer labels keep their number, so a table of names as long as the highest one is needed; beyond this the
# numbers are ids rather than class indices and are numbered like names.
MAX_INTEGER_LABEL = 1_000_000

_INTEGER = re.compile(r"[+-]?\d{1,18}")


def integer_or_none(text: str) -> int | None:
    """Read a label that is written as an integer."""
    return int(text) if _INTEGER.fullmatch(text) else None


def number_labels(found: pa.Array, names: tuple[str, ...] = ()) -> tuple[pa.Array, tuple[str, ...]]:
    """Number labels: integers keep their value, text is numbered in sorted order after the known ``names``.

    ``found`` is an integer or string array with nulls; negative integers mean no label.
    Gives (int64 array with nulls, class names).
    """
    if pa.types.is_integer(found.type):
        found = found.cast(pa.int64())
        wanted = pc.if_else(pc.less(found, 0), pa.scalar(None, pa.int64()), found)
        top = pc.max(wanted).as_py()
        if top is None:
            return wanted, names
        if top <= MAX_INTEGER_LABEL:
            return wanted, (*names, *map(str, range(len(names), top + 1)))
        texts = np.sort(wanted.drop_null().unique().to_numpy()).astype(str).tolist()
        return _numbered(wanted.cast(pa.string()), names, texts)
    return _numbered(found, names, sorted(found.drop_null().unique().to_pylist(), key=_utf8))


def parse_labels(texts: pa.Array) -> pa.Array:
    """Make labels that were written as text integers if every one is an integer, and leave them text if not."""
    coded = texts.dictionary_encode()
    values = [integer_or_none(text) for text in coded.dictionary.to_pylist()]
    if any(value is None for value in values):
        return texts
    return pa.array(values, pa.int64()).take(coded.indices)


def _numbered(found: pa.Array, names: tuple[str, ...], texts: list[str]) -> tuple[pa.Array, tuple[str, ...]]:
    known = set(names)
    classes = (*names, *(text for text in texts if text not in known))
    return pc.index_in(found, value_set=pa.array(classes, pa.string())).cast(pa.int64()), classes


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
