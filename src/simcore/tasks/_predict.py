"""Use a saved head: images to class names with probabilities."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import torch

from simcore.artifacts import Embeddings
from simcore.artifacts.files import written_aside
from simcore.errors import SimcoreError, UsageError
from simcore.tasks._features import features_of
from simcore.tasks._head import Head

if TYPE_CHECKING:
    from simcore.embedding import Embedder, Encoder
    from simcore.images import ImageSource

BLOCK_ROWS = 8_192
BESIDE = "."  # the encoder of a head that was trained together with its backbone lies in the head's own folder


def load_predictor(
    place: str | os.PathLike[str], *, encoder: str | os.PathLike[str] | None = None, **options: Any
) -> tuple[Head, Encoder]:
    """Open a saved head and the encoder that it was trained on.

    Args:
        place: folder that ``simcore evaluate`` left, or its ``head.safetensors``.
        encoder: where the encoder lies now, if not where it did then.
        options: those of :func:`simcore.embedding.load_encoder`; image size and backbone are the head's if not given.

    Raises ``SimcoreError`` where the encoder is another than the head's: its answers would mean nothing.
    """
    head = Head.load(place)
    spec = encoder if encoder is not None else head.encoder.get("spec")
    if spec is None:
        raise UsageError(f"{place}: the head does not say which encoder it was trained on; give --encoder")
    if spec == BESIDE:
        folder = Path(place)
        spec = folder if folder.is_dir() else folder.parent
    from simcore.embedding import load_encoder

    known = {name: head.encoder[name] for name in ("image_size", "backbone") if head.encoder.get(name)}
    model = load_encoder(spec, **known | {name: value for name, value in options.items() if value is not None})
    _check_encoder(head, model.fingerprint, str(spec))
    return head, model


def predict(head: Head, embedder: Embedder | None, images: ImageSource | Embeddings, *, top: int = 1) -> pa.Table:
    """Classify every readable image.

    Args:
        head: trained on features of the embedder's encoder.
        embedder: may be None where ``images`` are features already.
        top: how many classes to name for each image.

    Returns:
        Columns ``id``, ``class`` and ``probability`` (softmax, float32), one row an image in source order; with
        ``top`` above 1 that many rows an image, most probable first, and a column ``rank`` from 1.
    """
    if top < 1:
        raise UsageError(f"--top is {top}, but must be at least 1")
    rows = features_of(embedder, images)
    made_by = rows.info.get("encoder_fingerprint")
    if made_by:
        _check_encoder(head, str(made_by), str(rows.info.get("encoder", "these features")))
    blocks = list(_blocks(head, rows, min(top, len(head.classes))))
    table = pa.concat_tables(blocks) if blocks else _table(rows.table["id"][:0], head, np.zeros((0, 1), int), None)
    meta = {"head": head.fingerprint, "features": rows.fingerprint, "num_skipped": rows.num_skipped}
    return table.replace_schema_metadata({"simcore": json.dumps(meta)})


def save_predictions(table: pa.Table, path: str | os.PathLike[str]) -> None:
    """Write ``.csv`` or ``.parquet``, by the ending; whole or not at all."""
    ending = Path(path).suffix.lower()
    if ending not in (".csv", ".parquet"):
        raise UsageError(f"{path}: predictions are written as .csv or .parquet")
    with written_aside(path) as aside:
        if ending == ".csv":
            pa_csv.write_csv(table, aside)
        else:
            pq.write_table(table, aside)


def _check_encoder(head: Head, fingerprint: str, name: str) -> None:
    wanted = head.encoder.get("fingerprint")
    if wanted and wanted != fingerprint:
        raise SimcoreError(
            f"the head was trained on encoder {head.encoder.get('spec')} ({wanted}), not on {name} ({fingerprint})"
        )


def _blocks(head: Head, rows: Embeddings, top: int) -> Iterator[pa.Table]:
    ids = rows.table["id"]
    for start, block in rows.features.blocks(BLOCK_ROWS):
        features = torch.from_numpy(np.asarray(block, np.float32))
        probability = head.logits(features).softmax(1)
        order = probability.argsort(dim=1, descending=True, stable=True)[:, :top]
        yield _table(ids[start : start + len(block)], head, order.numpy(), probability.gather(1, order).numpy())


def _table(ids: pa.ChunkedArray, head: Head, order: Any, probability: Any) -> pa.Table:
    top = order.shape[1]
    names = pa.array(head.classes, pa.string()).take(pa.array(order.reshape(-1)))
    values = np.zeros(0, np.float32) if probability is None else probability.reshape(-1)
    repeated = ids.combine_chunks().take(pa.array(np.repeat(np.arange(len(ids)), top)))
    columns = {"id": repeated, "class": names, "probability": pa.array(values, pa.float32())}
    if top > 1:
        columns["rank"] = pa.array(np.tile(np.arange(1, top + 1), len(ids)))
    return pa.table(columns)
