"""The numeric half of embedding: decoded batches through the network, and features into the format of the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from simcore.embedding._formats import fit_format
from simcore.embedding._pieces import Piece
from simcore.embedding._reading import Batch
from simcore.embedding.encoder import Encoder
from simcore.errors import SimcoreError, UsageError
from simcore.fetch import Fetch

PRECISIONS = {"32": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
NOT_FINITE = "the encoder gave NaN or infinity"
# So many images in a batch without one finite feature mean a broken network, not bad images.
BROKEN_AFTER = 16


def check_batching(batch_size: int, num_workers: int | None, precision: str) -> None:
    """Refuse what no pass over images can be made with."""
    if batch_size < 1:
        raise UsageError(f"--batch-size is {batch_size}, but must be at least 1")
    if num_workers is not None and num_workers < 0:
        raise UsageError(f"--num-workers is {num_workers}, but must not be negative")
    if precision not in PRECISIONS:
        raise UsageError(f"--precision is '{precision}', but must be one of {', '.join(PRECISIONS)}")


def embed_batches(
    encoder: Encoder, batches: Iterable[Batch], *, precision: str, dtype: str
) -> Iterator[tuple[Batch, Piece]]:
    """Embed batches in order, one ahead: a GPU computes a batch while the one before it is fetched from it."""
    waiting: tuple[Batch, Fetch] | None = None
    for batch in batches:
        begun = batch, Fetch(forward(encoder, batch, precision))
        if waiting is not None:
            yield waiting[0], to_piece(encoder, waiting[0], waiting[1].wait(), dtype)
        waiting = begun
    if waiting is not None:
        yield waiting[0], to_piece(encoder, waiting[0], waiting[1].wait(), dtype)


def forward(encoder: Encoder, batch: Batch, precision: str) -> Tensor:
    """Begin to compute the features of a batch; float32 [num_ok, dim] on the encoder's device."""
    if not len(batch.pixels):
        return torch.empty(0, encoder.dim)
    pixels = torch.from_numpy(batch.pixels)
    if encoder.device.type == "cuda":
        pixels = pixels.pin_memory()  # from other memory the copy would wait for the batch before
    images = pixels.to(encoder.device, non_blocking=True).permute(0, 3, 1, 2)
    low = PRECISIONS[precision]
    with torch.autocast(encoder.device.type, dtype=low, enabled=low is not None):
        features: Tensor = encoder(images)
    return features


def to_piece(encoder: Encoder, batch: Batch, computed: Tensor, dtype: str) -> Piece:
    """Bring features into the number format ``dtype``; rows that are not finite get a reason instead.

    Raises ``SimcoreError`` where a whole batch is not finite.
    """
    features, reasons = computed.cpu().numpy(), list(batch.reasons)
    finite = np.asarray(np.isfinite(features).all(axis=1))
    if not finite.all():
        if len(finite) >= BROKEN_AFTER and not finite.any():
            raise SimcoreError(f"{encoder.spec} gives NaN or infinity for every image of a batch; it is broken")
        readable = [row for row, reason in enumerate(reasons) if not reason]
        for place in np.flatnonzero(~finite).tolist():
            reasons[readable[place]] = NOT_FINITE
    stored, num_rescaled = fit_format(features[finite], dtype)
    return Piece(
        start=batch.start,
        sizes=batch.sizes,
        skipped=np.array([row for row, reason in enumerate(reasons) if reason], np.int64),
        reasons=np.array([reason for reason in reasons if reason], np.str_),
        features=stored,
        num_rescaled=num_rescaled,
    )
