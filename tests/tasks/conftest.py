"""Small, separable features and images, and the smallest encoder."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from simcore.artifacts import Embeddings
from simcore.embedding import load_encoder

COLOURS = {
    "blue": (20, 40, 220),
    "green": (30, 200, 40),
    "red": (220, 30, 40),
    "white": (240, 240, 240),
    "black": (10, 10, 10),
}


@pytest.fixture(scope="module")
def encoder():
    """Give timm's smallest network, with random weights."""
    return load_encoder("timm:test_resnet@random", image_size=16, device="cpu")


@pytest.fixture(scope="session")
def write_colours():
    """Write a folder of images a class; a class is a colour with some noise."""

    def write(folder, per_class, seed, names=("blue", "green", "red")):
        generator = np.random.default_rng(seed)
        for name in names:
            (folder / name).mkdir(parents=True)
            for number in range(per_class):
                noise = generator.integers(-15, 16, (20, 20, 3))
                shade = np.clip(np.array(COLOURS[name]) + noise, 0, 255).astype(np.uint8)
                Image.fromarray(shade).save(folder / name / f"{number}.png")

    return write


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
