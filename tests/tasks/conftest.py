"""Stores of small, separable features, so that tasks can be tested without images."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from simcore.artifacts import Embeddings


@pytest.fixture
def store():
    """Make Embeddings of rows with class names; the numbering is that of the sorted names."""

    def make(features, names, *, classes=None, **info):
        classes = tuple(classes if classes is not None else sorted(set(names)))
        labels = [classes.index(name) for name in names]
        rows = Embeddings.from_array(np.asarray(features, np.float32), labels=labels)
        return dataclasses.replace(rows, classes=classes, info=info)

    return make


@pytest.fixture
def blobs(store):
    """Make a train and a test store of Gaussian blobs, one a class."""

    def make(*, num_classes=3, per_class=20, dim=8, spread=0.3, seed=0, shift=0.0):
        generator = np.random.default_rng(seed)
        centres = generator.normal(size=(num_classes, dim))
        names = [chr(97 + c) for c in range(num_classes) for _ in range(per_class)]

        def draw():
            noise = generator.normal(size=(num_classes * per_class, dim)) * spread
            return store(np.repeat(centres, per_class, 0) + noise + shift, names)

        return draw(), draw()

    return make
