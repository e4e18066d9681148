"""What the stages take: sources, paths and the artifacts of earlier stages, each made one thing here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote

import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from simcore.artifacts import Checkpoint, Embeddings, Selection
from simcore.artifacts.embeddings import is_store
from simcore.errors import SimcoreError, UsageError
from simcore.images import ImageSource, open_images, open_uris
from simcore.images.opening import parse_source
from simcore.images.selectors import Selectors

if TYPE_CHECKING:
    from simcore.embedding import Encoder

StrPath: TypeAlias = str | os.PathLike[str]
Images: TypeAlias = StrPath | ImageSource
Features: TypeAlias = StrPath | ImageSource | Embeddings | npt.NDArray[Any]


def as_images(source: Images, *, split: str = "train") -> ImageSource:
    """Open a source of images, unless it is open; ``split`` is the part of a named data set."""
    return source if isinstance(source, ImageSource) else open_images(source, split=split)


def as_labelled(source: Images | Embeddings, split: str) -> ImageSource | Embeddings:
    """Open a store, or a source of images, with labels."""
    if isinstance(source, Embeddings):
        return source
    if not isinstance(source, ImageSource) and (loaded := _stored(source)) is not None:
        return loaded
    return as_images(source, split=split)


def labelled_by(attribute: str, source: Images | Embeddings, split: str) -> ImageSource:
    """Open a source with one of its columns as the label."""
    if not isinstance(source, str | os.PathLike) or is_store(source):
        raise UsageError("attributes are columns of a .csv list or of Parquet: give the path of one")
    written = os.fspath(source)
    mark = "#" if parse_source(written)[2] == Selectors() else "&"
    return open_images(f"{written}{mark}label={quote(attribute)}", split=split)


def as_coreset(given: Images | Selection) -> ImageSource:
    """Open the images of a coreset or its file; of anything else that is a source, too."""
    if isinstance(given, str | os.PathLike) and _is_selection(given):
        given = Selection.load(given)
    if isinstance(given, Selection):
        return open_uris(given)
    return as_images(given)


def coreset_or_none(selection: Selection) -> ImageSource | None:
    """Open the images of a coreset if they are still where they were."""
    try:
        return as_coreset(selection)
    except SimcoreError:
        return None


def _is_selection(path: StrPath) -> bool:
    place = Path(path)
    if place.suffix != ".parquet" or not place.is_file():
        return False
    try:
        return b"simcore" in (pq.read_schema(place).metadata or {})
    except (OSError, pa.ArrowInvalid):
        return False


def as_features(given: Features) -> Embeddings | ImageSource:
    """Open a store or a matrix of features; images stay images, to be embedded."""
    if isinstance(given, Embeddings | ImageSource):
        return given
    if not isinstance(given, str | os.PathLike):
        return Embeddings.from_array(given)
    loaded = _stored(given)
    return as_images(given) if loaded is None else loaded


def _stored(path: StrPath) -> Embeddings | None:
    """Open a store or a .npy matrix, perhaps with selectors such as '#classes=a,b'; None for anything else."""
    if is_store(path):
        return Embeddings.load(path)
    place, mark, _ = os.fspath(path).rpartition("#")
    if not mark or not is_store(place):
        return None
    whole, selectors = Embeddings.load(place), parse_source(os.fspath(path))[2]
    if selectors.label is not None:
        raise UsageError(f"{place}: a store holds one label a row; choose another column when it is embedded")
    return whole.take(selectors.rows(whole))


def store_of(selection: Selection, side: str, given: StrPath | Embeddings | None) -> Embeddings | None:
    """Open the store given for one side of a coreset, else the one noted in it if it is still there."""
    place = given if given is not None else selection.settings.get(f"{side}_store")
    if place is None or isinstance(place, Embeddings):
        return place
    try:
        return Embeddings.load(place)
    except SimcoreError:
        if given is not None:
            raise
        return None


def images_of(store: Embeddings | None) -> ImageSource | None:
    """Open the images that a store was made of if they are still where they were."""
    try:
        return None if store is None else open_uris(store)
    except SimcoreError:
        return None


def as_encoder(encoder: StrPath | Checkpoint | Encoder, **loader: Any) -> Encoder:
    """Load an encoder, unless it is one."""
    from simcore.embedding import Encoder, load_encoder

    return encoder if isinstance(encoder, Encoder) else load_encoder(encoder, **loader)
