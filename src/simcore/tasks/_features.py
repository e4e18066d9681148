"""Features of a train and a test set, each computed once, with labels in one numbering."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from simcore.artifacts import Embeddings
from simcore.artifacts.files import fingerprint
from simcore.errors import SimcoreError, SimcoreWarning
from simcore.tasks._classes import ClassMap, match_classes

if TYPE_CHECKING:
    from simcore.embedding import Embedder, Encoder
    from simcore.images import ImageSource
    from simcore.tasks._task import Task

BLOCK_ROWS = 65_536


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LabelledFeatures:
    """Feature rows that have a label.

    Attributes:
        features: float32 [n, dim], as the backbone gave them.
        labels: class numbers, int64 [n].
    """

    features: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def dim(self) -> int:
        """Width of a feature row."""
        return self.features.shape[1]

    def take(self, rows: npt.NDArray[np.int64]) -> LabelledFeatures:
        """Keep ``rows``, in that order."""
        index = torch.from_numpy(rows).to(self.labels.device)
        return LabelledFeatures(features=self.features[index], labels=self.labels[index])

    def to(self, device: torch.device) -> LabelledFeatures:
        """Put both tensors on a device."""
        return LabelledFeatures(features=self.features.to(device), labels=self.labels.to(device))

    def map(self, change: Callable[[Tensor], Tensor]) -> LabelledFeatures:
        """Change the features [n, dim] and keep the labels."""
        return LabelledFeatures(features=change(self.features), labels=self.labels)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FeatureSets:
    """What a task on frozen features works with.

    Attributes:
        train, test: labelled rows in the numbers of ``classes``.
        classes: class names.
        encoder: spec, fingerprint, backbone and image_size of the encoder, where they are known.
        details: counts and names of what was left out, for the report.
        parents: fingerprints of the encoder and of both sets.
        images: the images of the train rows, in their order; None where the set was a store.
    """

    train: LabelledFeatures
    test: LabelledFeatures
    classes: tuple[str, ...]
    encoder: Mapping[str, Any]
    details: Mapping[str, Any]
    parents: Mapping[str, str]
    images: ImageSource | None = None

    def on(self, device: str) -> FeatureSets:
        """Put the features on a device, named as in the settings."""
        from simcore.embedding.load import pick_device

        place = pick_device(device)
        return dataclasses.replace(self, train=self.train.to(place), test=self.test.to(place))

    def map(self, change: Callable[[Tensor], Tensor]) -> FeatureSets:
        """Change the features of both sets [n, dim] alike."""
        return dataclasses.replace(self, train=self.train.map(change), test=self.test.map(change))


def embedder_for(encoder: Encoder | None, task: Task, *, quiet: bool, **options: Any) -> Embedder | None:
    """Make the embedder of a task; None without an encoder."""
    if encoder is None:
        return None
    from simcore.embedding import Embedder

    return Embedder(encoder, device=task.device, num_workers=task.num_workers, quiet=quiet, **options)


def gather(
    embedder: Embedder | None,
    train: ImageSource | Embeddings,
    test: ImageSource | Embeddings,
    *,
    cache: Path | None,
) -> FeatureSets:
    """Embed what is not embedded yet, match the classes by name, and keep the rows that have a label.

    Args:
        embedder: computes features of a source; may be None where both sets are stores.
        cache: folder for stores named by the fingerprints of encoder and source; in memory if None.

    Raises ``SimcoreError`` where the two sets come from different encoders, hold NaN or share no class.
    """
    if not isinstance(train, Embeddings) and not (train.labels >= 0).any():  # told before anything is embedded
        raise SimcoreError(f"{train.name}: no train image has a label; labels are class folders or a label column")
    train_rows = features_of(embedder, train, cache=cache)
    test_rows = features_of(embedder, test, cache=cache)
    _same_encoder(train_rows, test_rows)
    matched = match_classes(
        train_rows.labels,
        train_rows.classes,
        test_rows.labels,
        test_rows.classes,
        empty=_empty_classes(train, train_rows),
    )
    matched.warn(told=() if isinstance(train, Embeddings) else train.notes.empty_classes)
    return FeatureSets(
        train=_labelled(train_rows, matched.train, "train"),
        test=_labelled(test_rows, matched.test, "test"),
        classes=matched.classes,
        details=_details(matched, train_rows, test_rows),
        encoder=_encoder(embedder, train_rows),
        parents=_parents(embedder, train_rows, test_rows),
        images=None if isinstance(train, Embeddings) else _images_of(train, train_rows, matched.train),
    )


def features_of(
    embedder: Embedder | None, images: ImageSource | Embeddings, *, cache: Path | None = None
) -> Embeddings:
    """Give the features of a source, from ``cache`` where they lie there already; a store is handed through."""
    if isinstance(images, Embeddings):
        if images.num_skipped:
            _tell_skipped(images)
        return images
    if embedder is None:
        raise SimcoreError(f"{images.name}: an encoder is needed to embed images")
    if cache is None:
        return embedder(images)
    return embedder(images, cache / fingerprint(embedder.encoder.fingerprint, images.fingerprint))


def _tell_skipped(store: Embeddings) -> None:
    """Repeat what the embedder told when the store was made."""
    text = f"{store.path or 'the store'}: {store.num_skipped} images could not be read and are left out"
    warnings.warn(text, SimcoreWarning, stacklevel=4)


def _empty_classes(images: ImageSource | Embeddings, rows: Embeddings) -> Sequence[str]:
    """Name train classes without a row: empty folders, and those of which no image could be read."""
    if isinstance(images, Embeddings):
        return tuple(rows.info.get("empty_classes", ()))
    listed = np.unique(images.labels[images.labels >= 0])
    unread = np.setdiff1d(listed, rows.labels).tolist()
    return (*images.notes.empty_classes, *(images.classes[label] for label in unread))


def _images_of(source: ImageSource, rows: Embeddings, labels: npt.NDArray[np.int64]) -> ImageSource:
    """Keep the images that have a feature row with a label."""
    return source.take(embedded_rows(source, rows)[labels >= 0])


def embedded_rows(source: ImageSource, rows: Embeddings) -> npt.NDArray[np.int64]:
    """Say which row of the source each feature row is of, int64 [num_rows]; both are in the same order."""
    if len(rows) == len(source):
        return np.arange(len(source))
    ids = enumerate(source.table["id"].to_pylist())
    return np.array([next(row for row, name in ids if name == wanted) for wanted in rows.table["id"].to_pylist()])


def _labelled(rows: Embeddings, labels: npt.NDArray[np.int64], part: str) -> LabelledFeatures:
    kept = np.flatnonzero(labels >= 0)
    features = torch.empty((len(kept), rows.dim), dtype=torch.float32)
    for start in range(0, len(kept), BLOCK_ROWS):
        block = rows.features.take(kept[start : start + BLOCK_ROWS]).astype(np.float32, copy=False)
        features[start : start + len(block)] = torch.from_numpy(block)
    bad = torch.nonzero(~torch.isfinite(features).all(1))[:, 0]
    if len(bad):
        first = rows.table["id"][int(kept[int(bad[0])])].as_py()
        raise SimcoreError(f"{len(bad)} {part} features are not finite, the first that of {first}")
    return LabelledFeatures(features=features, labels=torch.from_numpy(labels[kept]))


def _same_encoder(train: Embeddings, test: Embeddings) -> None:
    if train.dim != test.dim:
        raise SimcoreError(f"train features have {train.dim} dimensions, test features {test.dim}: embed both alike")
    made_by = [_encoder_of_store(rows) for rows in (train, test)]
    if all(made_by) and made_by[0] != made_by[1]:
        raise SimcoreError(f"train features are of encoder {made_by[0]}, test features of {made_by[1]}")


def _encoder_of_store(rows: Embeddings) -> str:
    return str(rows.info.get("encoder_fingerprint", ""))


def _encoder(embedder: Embedder | None, rows: Embeddings) -> dict[str, Any]:
    """Say how the encoder can be opened again; empty where features came from plain arrays."""
    if embedder is not None:
        return described(embedder.encoder)
    if not _encoder_of_store(rows):
        return {}
    return {
        "spec": _lasting(str(rows.info.get("encoder", ""))),
        "fingerprint": _encoder_of_store(rows),
        "backbone": rows.info.get("backbone"),
        "image_size": rows.info.get("transform", {}).get("image_size"),
    }


def described(encoder: Encoder) -> dict[str, Any]:
    """Say how an encoder can be opened again, and what it must then be."""
    return {
        "spec": _lasting(encoder.spec),
        "fingerprint": encoder.fingerprint,
        "backbone": encoder.backbone_name,
        "image_size": encoder.image_size,
    }


def _lasting(spec: str) -> str:
    """Make a path absolute, so that it holds from another folder too."""
    return str(Path(spec).resolve()) if Path(spec).exists() else spec


def _parents(embedder: Embedder | None, train: Embeddings, test: Embeddings) -> dict[str, str]:
    encoder = _encoder(embedder, train)
    known = {"encoder": encoder["fingerprint"]} if encoder else {}
    return {**known, "train": train.fingerprint, "test": test.fingerprint}


def _details(matched: ClassMap, train: Embeddings, test: Embeddings) -> dict[str, Any]:
    return {**matched.details(), "num_train_skipped": train.num_skipped, "num_test_skipped": test.num_skipped}
