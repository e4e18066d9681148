from __future__ import annotations

import warnings

import numpy as np
import pytest

from simcore.errors import SimcoreError, SimcoreWarning
from simcore.tasks._classes import match_classes


def rows(*labels):
    return np.asarray(labels, np.int64)


def test_classes_are_matched_by_name_not_by_number():
    found = match_classes(rows(0, 1, 2, 3), ["0", "180", "270", "90"], rows(0, 1, 2), ["0", "270", "90"], empty=["135"])
    assert found.classes == ("0", "180", "270", "90")
    assert found.test.tolist() == [0, 2, 3]
    assert found.untested == ("180",)
    assert found.empty == ("135",)
    with pytest.warns(SimcoreWarning) as told:
        found.warn()
    text = " | ".join(str(warning.message) for warning in told)
    assert "'135'" in text
    assert "'180'" in text


def test_empty_classes_take_no_number():
    found = match_classes(rows(1, 3, 3), list("abcd"), rows(3, 1), list("abcd"))
    assert found.classes == ("b", "d")
    assert found.train.tolist() == [0, 1, 1]
    assert found.test.tolist() == [1, 0]
    with warnings.catch_warnings():  # a class list longer than the data is no fault
        warnings.simplefilter("error")
        found.warn()


def test_classes_of_one_name_are_one_class():
    with pytest.warns(SimcoreWarning, match="3 train classes have 2 names"):
        found = match_classes(rows(0, 1, 2), ["crane", "owl", "crane"], rows(0, 1), ["crane", "owl"])
    assert found.classes == ("crane", "owl")
    assert found.train.tolist() == [0, 1, 0]


def test_test_classes_unknown_to_train_are_left_out_and_counted():
    found = match_classes(rows(0, 1), ["a", "b"], rows(0, 1, 1, 2, -1), ["b", "x", "y"])
    assert found.test.tolist() == [1, -1, -1, -1, -1]
    assert dict(found.unknown) == {"x": 2, "y": 1}
    assert found.details()["num_test_unlabelled"] == 1
    with pytest.warns(SimcoreWarning, match="3 test images left out"):
        found.warn()


def test_unlabelled_rows_stay_unlabelled():
    found = match_classes(rows(-1, 0, -1, 1), ["a", "b"], rows(1, 0), ["a", "b"])
    assert found.train.tolist() == [-1, 0, -1, 1]
    with pytest.warns(SimcoreWarning, match="2 of 4 train images have no label"):
        found.warn()


def test_plain_numbers_are_their_own_names():
    found = match_classes(rows(5, 7), (), rows(7, 5, 5), ())
    assert found.classes == ("5", "7")
    assert found.test.tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (rows(-1, -1), rows(0), "no train image has a label"),
        (rows(0), rows(1), "no test image has a class of the train set"),
        (rows(9), rows(0), "label 9 has no name"),
    ],
)
def test_nothing_in_common_is_an_error(train, test, message):
    with pytest.raises(SimcoreError, match=message):
        match_classes(train, ["a", "b"], test, ["a", "b"])
