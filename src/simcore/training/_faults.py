"""Images that could not be read: counted in every epoch, told of once."""

from __future__ import annotations

import itertools
import warnings
from collections import Counter

from simcore.errors import SimcoreWarning
from simcore.images.source import ImageSource


class Faults:
    """What of a source this process could not read."""

    def __init__(self, source: ImageSource) -> None:
        self.source = source
        self._new: dict[int, str] = {}
        self._told: set[int] = set()
        self._counts: Counter[int] = Counter()

    def note(self, epoch: int, faults: tuple[tuple[int, str], ...]) -> None:
        """Take the (row, reason) of images of ``epoch``."""
        self._counts[epoch] += len(faults)
        self._new.update((row, reason) for row, reason in faults if row not in self._told)

    @property
    def num_rows(self) -> int:
        """How many rows could not be read so far."""
        return len(self._told | self._new.keys())

    def end_epoch(self, epoch: int) -> int:
        """Warn of what is new, and give the number of images that ``epoch`` went without."""
        if self._new:
            listed = itertools.islice(sorted(self._new.items()), 3)
            named = "; ".join(f"{name_of_row(self.source, row)} ({reason})" for row, reason in listed)
            more = f" and {len(self._new) - 3} more" if len(self._new) > 3 else ""
            message = f"{len(self._new)} unreadable images are left out of training: {named}{more}"
            warnings.warn(message, SimcoreWarning, stacklevel=2)
        self._told |= self._new.keys()
        self._new = {}
        return self._counts.pop(epoch, 0)


def name_of_row(source: ImageSource, row: int) -> str:
    """Give the id of a row."""
    return str(source.table["id"][row].as_py())
