"""The protocol of the studies of selectors: targets, pools, and the figures by which picks are judged.

X is the first 100 train images of each class of a fine-grained target of Tiny-ImageNet, U every other train image.
Labels are used for nothing but the figures.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny_imagenet
from simcore.artifacts import Embeddings

BUDGETS = (1_000, 2_000, 5_000, 10_000)
NUM_TARGET_PER_CLASS = 100
NO_CLASS = 1_000  # label of rows that are no Tiny-ImageNet image


class Task:
    """One target and one pool, seen by one encoder."""

    def __init__(self, tiny: Embeddings, cifar: Embeddings | None, wanted: list[int]) -> None:
        labels = tiny.labels
        own = np.zeros(len(labels), np.bool_)
        for label in wanted:
            own[np.flatnonzero(labels == label)[:NUM_TARGET_PER_CLASS]] = True
        features = np.asarray(tiny.features)
        self.wanted = np.array(wanted)
        self.target = Embeddings.from_array(features[own], labels=labels[own])
        rows, self.labels = features[~own], labels[~own]
        if cifar is not None:
            rows = np.concatenate([rows, np.asarray(cifar.features)])
            self.labels = np.concatenate([self.labels, NO_CLASS + cifar.labels])
        self.pool = Embeddings.from_array(rows, labels=self.labels)

    @property
    def pair(self) -> tuple[Embeddings, Embeddings]:
        return self.target, self.pool

    def figures(self, picks: np.ndarray) -> dict[str, float]:
        """Precision in percent, and over how many classes of the target the hits spread (exp of the entropy)."""
        labels = self.labels[picks]
        hits = labels[np.isin(labels, self.wanted)]
        share = np.unique(hits, return_counts=True)[1] / max(1, len(hits))
        return {
            "precision": round(100 * len(hits) / max(1, len(picks)), 2),
            "classes": round(float(np.exp(-(share * np.log(share)).sum())), 2) if len(hits) else 0.0,
        }

    def covered(self, picks: np.ndarray) -> float:
        """Facility location per x: the mean over X of the best cosine among the picks."""
        if not len(picks):
            return 0.0
        units = [
            np.asarray(e.features[:] if rows is None else e.features.take(rows), np.float32)
            for e, rows in ((self.target, None), (self.pool, picks))
        ]
        target, chosen = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in units)
        return round(float((target @ chosen.T).max(axis=1).mean()), 5)

    def base_rate(self) -> float:
        return round(100 * float(np.isin(self.labels, self.wanted).mean()), 2)


def wanted_classes(data: Path) -> dict[str, list[int]]:
    """Give the class numbers of each target."""
    return {name: sorted(group.labels) for name, group in tiny_imagenet.groups(data).items()}


def named(values: list[str], target: str) -> dict[str, Embeddings]:
    pairs = (value.partition("=")[::2] for value in values)
    return {name: Embeddings.load(place.replace("{target}", target)) for name, place in pairs}
