"""Parquet tables of images, as the Hugging Face `datasets` library and others write them, read by row group.

The image column is a struct of ``bytes`` and ``path``, a binary column, or a text column of paths. A path
without bytes starts at the table's own folder, whatever the current folder is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from simcore.artifacts.files import fingerprint, parse_json
from simcore.errors import SimcoreError
from simcore.images.faults import Unreadable
from simcore.images.labels import number_labels
from simcore.images.names import escape
from simcore.images.row_groups import Group, ParquetReader, groups_of, opened_table
from simcore.images.source import ImageSource, SourceNotes, listing_of
from simcore.images.storage import is_remote, retried, stamp_of

IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "picture", "photo", "image_bytes", "bytes", "data")
PATH_COLUMNS = ("image_path", "img_path", "path", "file_path", "filepath", "file_name", "filename", "file", "url")
LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "cls", "class_id", "class_name", "category", "target", "y")
INDEXING_THREADS = 16


class Layout(NamedTuple):
    """Which columns of a table matter; ``names`` are the class names of a ClassLabel feature."""

    image: str
    label: str | None
    names: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class TableIndex:
    """One table: its row groups, labels as found (integer or text), and class names."""

    layout: Layout
    groups: tuple[Group, ...]
    labels: pa.Array
    stamp: tuple[int, int]


def open_parquet(where: str, files: Sequence[str], ids: Sequence[str], *, label: str | None = None) -> ImageSource:
    """Make a source of the rows of ``files``; ``ids`` are what the files are called in ids.

    ``label`` names the column that is the label; otherwise it is found by type and name.

    Files that are cut or damaged are named in the notes; ``SimcoreError`` where none gives a row.
    """
    indices, faults = _index_all(files, ids, label)
    counts = [0 if index is None else len(index.labels) for index in indices]
    if not sum(counts):
        reason = f" ({faults[0][0]}: {faults[0][1]})" if faults else ""
        raise SimcoreError(f"{where}: no images in it{reason}")
    labels, classes = _join_labels([index for index in indices if index is not None])
    rows = np.concatenate([np.arange(count) for count in counts])
    owner = pa.array(np.repeat(np.arange(len(files)), counts))
    numbers = pa.array(rows).cast(pa.string())
    names = pa.array([escape(name) for name in ids], pa.string()).take(owner)
    places = pa.array([name if is_remote(name) else escape(name) for name in files], pa.string()).take(owner)
    listing = listing_of(
        ids=pc.binary_join_element_wise(names, numbers, "#"),
        uris=pc.binary_join_element_wise(places, numbers, "#row="),
        labels=labels,
        units=owner,
        firsts=rows,
        seconds=np.full(len(rows), -1),
    )
    reader = _reader(files, ids, indices)
    notes = SourceNotes(incomplete=tuple(faults))
    return ImageSource(name=where, classes=classes, listing=listing, readers=(reader,), notes=notes)


def reader_of_tables(files: Sequence[str]) -> ParquetReader:
    """Make a reader of whole tables; ``SimcoreError`` where one is missing or damaged."""
    indices, faults = _index_all(files, files)
    if faults:
        raise SimcoreError(f"{faults[0][0]}: {faults[0][1]}")
    return _reader(files, files, indices)


def _reader(files: Sequence[str], ids: Sequence[str], indices: Sequence[TableIndex | None]) -> ParquetReader:
    stamps = [index.stamp if index else (-1, -1) for index in indices]
    return ParquetReader(
        files=tuple(files),
        columns=tuple(index.layout.image if index else "" for index in indices),
        groups=tuple(index.groups if index else () for index in indices),
        fingerprint=fingerprint(list(ids), stamps),
        undated=fingerprint(list(ids), [size for size, _ in stamps]),
    )


def _index_all(
    files: Sequence[str], ids: Sequence[str], label: str | None = None
) -> tuple[list[TableIndex | None], list[tuple[str, str]]]:
    with ThreadPoolExecutor(INDEXING_THREADS if any(map(is_remote, files)) else 1) as pool:
        results = list(pool.map(lambda file: _index_or_reason(file, label), files))
    faults = [(name, result) for name, result in zip(ids, results, strict=True) if isinstance(result, str)]
    return [None if isinstance(result, str) else result for result in results], faults


def _index_or_reason(file: str, label: str | None) -> TableIndex | str:
    try:
        return retried(file, lambda: _index(file, label))
    except Unreadable as fault:
        return fault.reason


def _index(file: str, label: str | None) -> TableIndex:
    stamp = stamp_of(file)
    with opened_table(file) as table:
        layout = find_layout(table.schema_arrow, label)
        return TableIndex(layout, groups_of(table, layout.image), _labels_of(table, layout), stamp)


def find_layout(schema: pa.Schema, label: str | None = None) -> Layout:
    """Find the image column and the label column, by the Hugging Face features first, then by type and name.

    Raises ``Unreadable`` where there is no image column, or no ``label`` column of the name asked for.
    """
    features = _features(schema)
    image = _image_column(schema, features)
    if label is None:
        label = _label_column(schema, features, image)
    elif schema.get_field_index(label) < 0 or not _is_label(_dense(schema.field(label).type)):
        raise Unreadable(f"no column '{label}' with labels among {', '.join(schema.names[:20])}")
    names: tuple[str, ...] = ()
    if label is not None and isinstance(features.get(label), dict):
        names = tuple(map(str, features[label].get("names") or ()))
    return Layout(image, label, names)


def _features(schema: pa.Schema) -> dict[str, Any]:
    try:
        content = parse_json((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = content.get("info", {}).get("features", {})
    except (ValueError, AttributeError):
        return {}
    return features if isinstance(features, dict) else {}


def _image_column(schema: pa.Schema, features: dict[str, Any]) -> str:
    declared = [name for name, kind in features.items() if isinstance(kind, dict) and kind.get("_type") == "Image"]
    structs = [f.name for f in schema if pa.types.is_struct(f.type) and f.type.get_field_index("bytes") >= 0]
    binaries = [field.name for field in schema if _is_binary(_dense(field.type))]
    texts = [field.name for field in schema if _is_text(_dense(field.type))]
    named = [name for name in IMAGE_COLUMNS if name in binaries]
    paths = [name for name in (*IMAGE_COLUMNS, *PATH_COLUMNS) if name in texts]
    for candidates in (declared, sorted(structs, key=_rank), named, binaries, paths):
        usable = [name for name in candidates if schema.get_field_index(name) >= 0]
        if usable:
            return usable[0]
    raise Unreadable(f"no image column among {', '.join(schema.names[:20]) or 'no columns'}")


def _rank(name: str) -> int:
    return IMAGE_COLUMNS.index(name) if name in IMAGE_COLUMNS else len(IMAGE_COLUMNS)


def _label_column(schema: pa.Schema, features: dict[str, Any], image: str) -> str | None:
    declared = [name for name, kind in features.items() if isinstance(kind, dict) and kind.get("_type") == "ClassLabel"]
    known = [name for name in LABEL_COLUMNS if name in schema.names]
    ranked = [name for name in known if name in declared] + declared + known
    for name in ranked:
        at = schema.get_field_index(name)
        if at >= 0 and name != image and _is_label(_dense(schema.field(at).type)):
            return name
    return None


def _dense(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_binary(kind: pa.DataType) -> bool:
    fixed = pa.types.is_fixed_size_binary(kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind) or fixed)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_label(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_floating(kind)) or _is_text(kind)


def _labels_of(table: pq.ParquetFile, layout: Layout) -> pa.Array:
    """Read the label column as int64 or text with nulls; all null where there is none."""
    if layout.label is None:
        return pa.nulls(table.metadata.num_rows, pa.int64())
    column = table.read(columns=[layout.label], use_threads=False)[layout.label]
    kind = _dense(column.type)
    if _is_text(kind):
        return _one_array(column.cast(pa.string()))
    dense = column.cast(kind)
    if pa.types.is_floating(kind):
        whole = pc.and_(pc.is_finite(dense), pc.equal(pc.floor(dense), dense))
        dense = pc.if_else(whole, dense, pa.scalar(None, kind))
    return _one_array(dense.cast(pa.int64()))


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.array([], column.type)])


def _join_labels(indices: list[TableIndex]) -> tuple[pa.Array, tuple[str, ...]]:
    """Number the labels of all tables together; names of ClassLabel features are matched where they differ."""
    first = tuple(dict.fromkeys(name for index in indices for name in index.layout.names))
    columns = []
    for index in indices:
        names, labels = index.layout.names, index.labels
        if names and names != first[: len(names)] and pa.types.is_integer(labels.type):
            usable = pc.if_else(pc.and_(pc.greater_equal(labels, 0), pc.less(labels, len(names))), labels, None)
            labels = pa.array(names, pa.string()).take(usable)
        columns.append(labels)
    if any(pa.types.is_string(column.type) for column in columns if column.null_count < len(column)):
        columns = [_as_names(column, first) for column in columns]
    else:
        columns = [column.cast(pa.int64()) for column in columns]
    return number_labels(pa.concat_arrays(columns), first)


def _as_names(column: pa.Array, names: tuple[str, ...]) -> pa.Array:
    if pa.types.is_string(column.type):
        return column
    highest = pc.max(column).as_py() or 0
    texts = [*names, *map(str, range(len(names), min(highest, 1 << 20) + 1))]
    usable = pc.if_else(pc.and_(pc.greater_equal(column, 0), pc.less(column, len(texts))), column, None)
    return pa.array(texts, pa.string()).take(usable)
