"""What every named data set must state, and that each is tested in its official layout."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path

import pytest

from simcore.datasets import Dataset, listing
from simcore.registry import find, name_of, names
from simcore.settings import fields_of

_spec = importlib.util.spec_from_file_location("layouts", Path(__file__).parents[1] / "datasets" / "layouts.py")
layouts = importlib.util.module_from_spec(_spec)
sys.modules["layouts"] = layouts
_spec.loader.exec_module(layouts)

PUBLISHED = [name for name in names("datasets") if issubclass(find("datasets", name), Dataset)]
TARGETS = {"aircraft", "cars", "pets", "cub", "dogs", "flowers", "stanford40", "mit67", "dtd", "celeba", "food11"}
OPEN_SETS = {"imagenet", "coco", "inaturalist", "places", "everything", "webvision", "webfg"}
PARTS = {f"imagenet_sub_{name}": number for name, number in [("aircraft", 8), ("cars", 10), ("cub", 20), ("pets", 24)]}


def test_all_are_there():
    listed = listing()
    assert {one.name for one in listed if one.kind == "target"} >= TARGETS
    assert {one.name for one in listed if one.kind == "open-set"} >= OPEN_SETS | PARTS.keys()
    assert len({one.name for one in listed}) == len(listed) == len(names("datasets"))


@pytest.mark.parametrize("one", listing(), ids=lambda one: one.name)
def test_the_table_says_what_a_person_needs(one):
    assert one.title
    assert one.licence
    assert one.how.startswith(f"simcore prepare {one.name} ")
    assert one.home.startswith(("http", "made by"))
    assert set(one.to_json()) == {field.name for field in dataclasses.fields(one)}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_strategy_like_all_others(name):
    cls = find("datasets", name)
    dataset = cls()
    assert name_of(dataset) == name
    assert dataclasses.is_dataclass(dataset)
    assert all(field.help for field in fields_of(cls))
    with pytest.raises(dataclasses.FrozenInstanceError):
        dataset.title = "x"
    assert cls.kind in ("target", "open-set")
    assert cls.metric in (("top1", "mean_per_class") if cls.kind == "target" else (None,))


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_set_has_a_layout_under_test(name):
    with_layout = {key.split()[0] for key in layouts.LAYOUTS}
    assert name in with_layout | PARTS.keys()


@pytest.mark.parametrize(("name", "number"), PARTS.items())
def test_hand_picked_synsets_are_distinct_and_as_many_as_published(name, number):
    synsets = find("datasets", name)().synsets
    assert len(set(synsets)) == len(synsets) == number == find("datasets", name).num_classes


def test_everything_is_the_sum_of_its_parts():
    parts = ("coco", "inaturalist", "imagenet", "places")
    assert sum(find("datasets", part).num_train for part in parts) == find("datasets", "everything").num_train
