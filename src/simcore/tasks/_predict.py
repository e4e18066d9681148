"""Use what an evaluation trained: images to class names with probabilities, to boxes or to masks."""

from __future__ import annotations

import dataclasses
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
from simcore.tasks._head import BESIDE, Head
from simcore.tasks._trained import ENDING, kind_told

if TYPE_CHECKING:
    from simcore.embedding import Embedder, Encoder
    from simcore.images import ImageSource

BLOCK_ROWS = 8_192
KINDS = ("head", "detector", "segmenter")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predicted:
    """What a prediction left at ``out``; ``num_boxes`` where it is of boxes."""

    out: str
    num_images: int
    num_skipped: int
    num_boxes: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Everything that is known, ready for ``json.dumps``."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


def predict_into(
    out: str | os.PathLike[str],
    place: str | os.PathLike[str],
    images: ImageSource | Embeddings,
    *,
    encoder: str | os.PathLike[str] | None = None,
    top: int = 1,
    quiet: bool = False,
    **settings: Any,
) -> Predicted:
    """Use the head at ``place``, of whatever kind, on every readable image, and write what it says.

    Args:
        out: ``.csv`` or ``.parquet`` for classes, ``.json`` for boxes, a new folder for masks.
        place: folder that ``simcore evaluate`` left, or the file in it.
        encoder, top: of a head that names classes alone, see :func:`load_predictor` and :func:`predict`.
        settings: batch_size, num_workers, device and precision; for classes all of the Embedder's.
    """
    file, kind = head_at(place)
    if kind != "head":
        return _look(out, file, kind, images, encoder=encoder, top=top, quiet=quiet, **settings)
    from simcore.embedding import Embedder

    check_ending(out)
    head, network = load_predictor(file, encoder=encoder, device=settings.get("device", "auto"))
    table = predict(head, Embedder(network, quiet=quiet, **settings), images, top=top)
    save_predictions(table, out)
    skipped: int = json.loads(table.schema.metadata[b"simcore"])["num_skipped"]
    return Predicted(out=os.fspath(out), num_images=len(table) // min(top, len(head.classes)), num_skipped=skipped)


def head_at(place: str | os.PathLike[str]) -> tuple[Path, str]:
    """Find the file of a trained head and say which of ``KINDS`` it is of; raises ``SimcoreError`` for none."""
    path = Path(place)
    if not path.is_dir():
        return path, kind_told(path) or "head"
    there = [kind for kind in KINDS if (path / f"{kind}{ENDING}").is_file()]
    if len(there) > 1:
        raise UsageError(f"{place}: holds a {' and a '.join(there)}; name the file: {path / there[0]}{ENDING}")
    if not there:
        raise SimcoreError(f"{place}: holds nothing that `simcore evaluate` trained")
    return path / f"{there[0]}{ENDING}", there[0]


def _look(
    out: str | os.PathLike[str],
    file: Path,
    kind: str,
    images: ImageSource | Embeddings,
    *,
    encoder: str | os.PathLike[str] | None,
    top: int,
    engine: str = "local",
    ray_address: str | None = None,
    **settings: Any,
) -> Predicted:
    """Use a detector or segmenter, refusing what has no meaning for it."""
    if encoder is not None or top != 1 or engine != "local" or ray_address is not None:
        raise UsageError(f"{file}: a {kind} takes no --encoder (it holds its own), --top or --engine")
    if isinstance(images, Embeddings):
        raise UsageError(f"{file}: a {kind} looks at images, not at a store of features")
    from simcore.tasks._predict_scenes import predict_scenes

    written = predict_scenes(file, kind, images, out, **settings)
    return Predicted(
        out=os.fspath(out),
        num_images=written.num_images,
        num_skipped=len(images) - written.num_images,
        num_boxes=written.num_boxes if kind == "detector" else None,
    )


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
    ending = check_ending(path)
    with written_aside(path) as aside:
        if ending == ".csv":
            pa_csv.write_csv(table, aside)
        else:
            pq.write_table(table, aside)


def check_ending(path: str | os.PathLike[str]) -> str:
    """Give the ending of a file of predictions, refusing all but those that can be written."""
    ending = Path(path).suffix.lower()
    if ending not in (".csv", ".parquet"):
        raise UsageError(f"{path}: predictions are written as .csv or .parquet")
    return ending


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
