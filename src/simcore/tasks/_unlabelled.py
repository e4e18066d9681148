"""Which images a task learns from without their labels."""

from __future__ import annotations

import dataclasses
import functools
import operator
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simcore.errors import SimcoreWarning, UsageError
from simcore.images import ImageSource
from simcore.tasks._labels import Rows


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Unlabelled:
    """Images without label: first ``num_own`` of the train set, then those of a further source."""

    images: ImageSource
    num_own: int

    def __len__(self) -> int:
        return len(self.images)

    @property
    def num_added(self) -> int:
        """Images of the further source."""
        return len(self) - self.num_own


def unlabelled_images(train: ImageSource, labelled: Rows, test: ImageSource, added: ImageSource | None) -> Unlabelled:
    """Put together the train images that are not among the ``labelled`` rows, and those of ``added``.

    Images of ``added`` that are in the train set anyway are not taken twice; those of the test set are left out,
    with a warning. Raises ``UsageError`` where nothing remains.
    """
    own = train.take(np.setdiff1d(np.arange(len(train)), labelled))
    parts = [own] if added is None else [own, foreign_images(added, train, test)]
    filled = [part for part in parts if len(part)]
    images = functools.reduce(operator.add, filled) if filled else own
    if not len(images):
        raise UsageError(
            f"there is no unlabelled image: all {len(train)} train images are labelled; "
            "lower --label-ratio or give --unlabelled"
        )
    return Unlabelled(images=images, num_own=len(own))


def foreign_images(added: ImageSource, train: ImageSource, test: ImageSource) -> ImageSource:
    """Give the images of ``added`` that neither set has; those of the test set are left out with a warning."""
    of_test = _is_in(added, test)
    if of_test.any():
        text = f"{added.name}: {int(of_test.sum())} of its images are test images and are left out"
        warnings.warn(text, SimcoreWarning, stacklevel=4)
    return added.take(np.flatnonzero(~of_test & ~_is_in(added, train)))


def _is_in(images: ImageSource, others: ImageSource) -> np.ndarray:
    known: pa.Array = others.table["uri"].combine_chunks()
    found: np.ndarray = pc.is_in(images.table["uri"], value_set=known).to_numpy()
    return found
