"""Classes of a train and a test set, matched by name.

The numbers of a head are those of the train classes that have an image, in their order. The test set's own numbers
mean nothing here: a test image is looked up by the name of its class. Test images of a class that training has never
seen cannot be answered rightly; they are left out, named in a warning and counted, and where none is left that is
an error.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from simcore.errors import SimcoreError, SimcoreWarning

Labels = npt.NDArray[np.int64]
NAMES_SHOWN = 8


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ClassMap:
    """The classes of a task and the labels in their numbers.

    Attributes:
        classes: names of the train classes that have an image; a label indexes into it.
        train: label of each train row, int64 [num_train]; -1 where it has none.
        test: label of each test row, int64 [num_test]; -1 where it has none or its class is unknown.
        empty: train classes without an image; they take no number.
        untested: classes that no test row has.
        unknown: test classes that no train row has, with their number of test rows.
    """

    classes: tuple[str, ...]
    train: Labels
    test: Labels
    empty: tuple[str, ...]
    untested: tuple[str, ...]
    unknown: Mapping[str, int]

    def details(self) -> dict[str, Any]:
        """Give names and counts as a report tells them."""
        return {
            "num_classes": len(self.classes),
            "num_train": int((self.train >= 0).sum()),
            "num_test": int((self.test >= 0).sum()),
            "num_train_unlabelled": int((self.train < 0).sum()),
            "num_test_unlabelled": int((self.test < 0).sum()) - sum(self.unknown.values()),
            "empty_classes": list(self.empty),
            "absent_classes": list(self.untested),
            "test_classes_unknown_to_train": dict(self.unknown),
        }

    def warn(self, *, told: Collection[str] = ()) -> None:
        """Say what does not match, one warning a matter; empty classes in ``told`` were named before."""
        empty = tuple(name for name in self.empty if name not in told)
        if empty:
            _tell(f"{_names(empty)} empty in the train set (no number is given)")
        if self.untested:
            _tell(f"{_names(self.untested)} without test image (left out of the mean per class)")
        if self.unknown:
            lost = sum(self.unknown.values())
            _tell(f"{_names(tuple(self.unknown))} unknown to the train set; {lost} test images left out")
        for part, labels, unknown in (("train", self.train, 0), ("test", self.test, sum(self.unknown.values()))):
            without = int((labels < 0).sum()) - unknown
            if without:
                _tell(f"{without} of {len(labels)} {part} images have no label and are left out")


def match_classes(
    train: Labels,
    train_classes: Sequence[str],
    test: Labels,
    test_classes: Sequence[str],
    *,
    empty: Sequence[str] = (),
) -> ClassMap:
    """Match the labels of two sets by class name.

    Args:
        train, test: label of each row in the set's own numbers, int64 [n]; -1 for none.
        train_classes, test_classes: names that those numbers index.
        empty: train classes known to hold no image beside those seen here (an empty folder).

    A name that neither set uses (a long class list narrowed to a few) is no fault and is not told.
    Raises ``SimcoreError`` where nothing is labelled or no test class is known to the train set.
    """
    train_names, test_names = _named(train, train_classes), _named(test, test_classes)
    used = np.unique(train[train >= 0])
    classes = tuple(dict.fromkeys(train_names[label] for label in used.tolist()))
    if len(classes) < len(used):
        _tell(f"{len(used)} train classes have {len(classes)} names; those of one name are taken as one class")
    known = frozenset(classes)
    unknown = _count_unknown(test, test_names, known)
    mapped = relabelled(test, test_names, classes)
    if not classes:
        raise SimcoreError("no train image has a label")
    if not (mapped >= 0).any():
        raise SimcoreError(
            f"no test image has a class of the train set (train: {_names(classes)}; test: {_names(tuple(unknown))})"
        )
    tested = set(mapped[mapped >= 0].tolist())
    return ClassMap(
        classes=classes,
        train=relabelled(train, train_names, classes),
        test=mapped,
        empty=tuple(name for name in dict.fromkeys(empty) if name not in known),
        untested=tuple(name for number, name in enumerate(classes) if number not in tested),
        unknown=unknown,
    )


def relabelled(labels: Labels, names: Sequence[str], classes: Sequence[str]) -> Labels:
    """Turn labels that index ``names`` into labels that index ``classes``; -1 where a name is not among them."""
    number = {name: position for position, name in enumerate(classes)}
    return _renumber(labels, [number.get(name, -1) for name in names])


def _named(labels: Labels, classes: Sequence[str]) -> tuple[str, ...]:
    """Give every number a name: that of ``classes``, or its own digits where the set brought no names."""
    highest = int(labels.max(initial=-1))
    if not classes:
        return tuple(map(str, range(highest + 1)))
    if highest >= len(classes):
        raise SimcoreError(f"label {highest} has no name: there are {len(classes)} classes")
    return tuple(classes)


def _renumber(labels: Labels, numbers: Sequence[int]) -> Labels:
    """Replace label i by ``numbers[i]`` and keep -1."""
    return np.asarray([*numbers, -1], np.int64)[labels]


def _count_unknown(labels: Labels, names: Sequence[str], known: Collection[str]) -> dict[str, int]:
    counts = np.bincount(labels[labels >= 0], minlength=len(names)).tolist()
    return {name: count for name, count in zip(names, counts, strict=True) if count and name not in known}


def _tell(text: str) -> None:
    warnings.warn(text, SimcoreWarning, stacklevel=3)


def _names(names: Sequence[str]) -> str:
    """Name a few and count the rest: ``3 classes ('a', 'b', 'c')``."""
    shown = ", ".join(f"'{name}'" for name in names[:NAMES_SHOWN]) or "none"
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return f"{len(names)} class{'' if len(names) == 1 else 'es'} ({shown}{more})"
