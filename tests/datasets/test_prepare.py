"""What `prepare` promises whatever the data set: whole or absent, idempotent, honest about counts."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tarfile
import warnings
from pathlib import Path

import pytest

from simcore.datasets import prepare
from simcore.errors import SimcoreError, SimcoreWarning, UsageError
from simcore.images import open_images
from simcore.registry import find

_spec = importlib.util.spec_from_file_location("layouts", Path(__file__).with_name("layouts.py"))
layouts = importlib.util.module_from_spec(_spec)
sys.modules["layouts"] = layouts
_spec.loader.exec_module(layouts)


@pytest.fixture
def pets(tmp_path):
    layouts.pets(tmp_path / "raw")
    return tmp_path / "raw"


def quietly(*args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SimcoreWarning)
        return prepare(*args, quiet=True, **options)


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_counts_that_differ_are_told_in_one_warning(pets, tmp_path):
    told = r"pets: .*2 classes instead of 37; 2 training images instead of 3,680"
    with pytest.warns(SimcoreWarning, match=told) as got:
        done = prepare("pets", archive=pets, out=tmp_path / "out", quiet=True)
    assert len(got) == 1
    assert done.num_images == {"train": 2, "test": 1}
    note = json.loads((tmp_path / "out" / "dataset.json").read_text("utf-8"))
    assert note["differences"] == list(done.differences)
    assert note["licence"] == "CC BY-SA 4.0"
    assert note["images_per_class"]["train"] == {"Abyssinian": 1, "american_bulldog": 1}


def test_counts_that_agree_warn_of_nothing(pets, tmp_path, monkeypatch):
    cls = find("datasets", "pets")
    for name, value in (("num_classes", 2), ("num_train", 2), ("num_test", 1)):
        monkeypatch.setattr(cls, name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert prepare("pets", archive=pets, out=tmp_path / "out", quiet=True).differences == ()


def test_a_second_run_does_nothing(pets, tmp_path):
    first = quietly("pets", archive=pets, out=tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    with pytest.warns(SimcoreWarning, match="differs from the published set"):
        second = prepare("pets", archive=str(pets), out=str(tmp_path / "out"), quiet=True)
    assert second.done_before
    assert not first.done_before
    assert second.num_images == first.num_images
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


def test_two_runs_give_the_same_bytes(pets, tmp_path):
    quietly("pets", archive=pets, out=tmp_path / "a")
    quietly("pets", archive=pets, out=tmp_path / "b")
    assert content(tmp_path / "a") == content(tmp_path / "b")


@pytest.mark.parametrize("change", [{"copy": True}, {"attribute": "species"}])
def test_another_preparation_in_the_same_place_is_refused(pets, tmp_path, change):
    quietly("pets", archive=pets, out=tmp_path / "out")
    with pytest.raises(SimcoreError, match="holds another preparation"):
        quietly("pets", archive=pets, out=tmp_path / "out", **change)


def test_a_folder_of_something_else_is_not_touched(pets, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("precious")
    with pytest.raises(SimcoreError, match="exists already"):
        quietly("pets", archive=pets, out=tmp_path / "out")
    assert content(tmp_path / "out") == {"mine.txt": b"precious"}


def test_a_failure_leaves_nothing(pets, tmp_path):
    (pets / "annotations" / "test.txt").unlink()
    with pytest.raises(SimcoreError, match=r"no 'annotations/test.txt' there; pets is published as images.tar.gz"):
        quietly("pets", archive=pets, out=tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_a_break_leaves_nothing(pets, tmp_path, monkeypatch):
    def broken(self, row):
        raise KeyboardInterrupt

    monkeypatch.setattr(find("datasets", "pets"), "reject", broken)
    with pytest.raises(KeyboardInterrupt):
        quietly("pets", archive=pets, out=tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_lists_without_pictures_are_an_error_that_names_the_first(pets, tmp_path):
    for path in (pets / "images").iterdir():
        path.unlink()
    with pytest.raises(SimcoreError, match=r"no images of pets there \(3 missing: .*Abyssinian_100.jpg"):
        quietly("pets", archive=pets, out=tmp_path / "out")


def test_missing_pictures_are_counted_and_named(pets, tmp_path):
    (pets / "images" / "Abyssinian_100.jpg").unlink()
    with pytest.warns(SimcoreWarning, match=r"1 left out \(missing\)"):
        done = prepare("pets", archive=pets, out=tmp_path / "out", quiet=True)
    assert done.left_out == {"missing": 1}
    note = json.loads((tmp_path / "out" / "dataset.json").read_text("utf-8"))
    assert note["left_out_examples"]["missing"] == [str(pets / "images" / "Abyssinian_100.jpg")]


def test_wrong_calls(pets, tmp_path):
    with pytest.raises(UsageError, match="did you mean 'pets'"):
        prepare("pet", archive=pets, out=tmp_path / "out")
    with pytest.raises(UsageError, match="no attribute 'specie5'; did you mean 'species'"):
        prepare("pets", archive=pets, out=tmp_path / "out", attribute="specie5")
    with pytest.raises(UsageError, match="mit67 has no attributes"):
        prepare("mit67", archive=pets, out=tmp_path / "out", attribute="x")
    with pytest.raises(UsageError, match="needs --archive"):
        prepare("pets", out=tmp_path / "out")
    with pytest.raises(SimcoreError, match=r"nowhere: no such file or folder"):
        prepare("pets", archive=tmp_path / "nowhere", out=tmp_path / "out")
    with pytest.raises(UsageError, match="WordNet ids"):
        find("datasets", "imagenet_sub_pets")(synsets=("tabby",))
    with pytest.raises(UsageError, match="from 1 to 10"):
        find("datasets", "dtd")(fold=11)


def test_the_folder_opens_by_split(pets, tmp_path):
    quietly("pets", archive=pets, out=tmp_path / "out")
    out = tmp_path / "out"
    assert open_images(out).classes == ("Abyssinian", "american_bulldog")
    assert [len(open_images(out, split=split)) for split in ("train", "test", "all")] == [2, 1, 3]
    assert len(open_images(f"{out}#split=test")) == 1
    assert len(open_images(f"list:{out}#split=all&limit=2")) == 2
    only = open_images(f"{out}#classes=Abyssinian")
    assert only.table["id"].to_pylist() == [str(pets / "images" / "Abyssinian_100.jpg")]
    with pytest.raises(SimcoreError, match="has no split 'dev'; it has test, train"):
        open_images(f"{out}#split=dev")


def test_the_folder_opens_although_unpacked_images_lie_in_it(pets, tmp_path):
    layouts.pack(layouts.LAYOUTS["pets"], pets, tmp_path / "download")
    quietly("pets", archive=tmp_path / "download", out=tmp_path / "out")
    assert (tmp_path / "out" / "unpacked" / "annotations" / "trimaps").is_dir()
    assert len(open_images(tmp_path / "out", split="all")) == 3


def test_names_that_are_not_unicode_and_names_with_commas(tmp_path):
    raw = tmp_path / "raw"
    layouts.picture(raw / "Images" / "bar, grill" / "x.jpg")
    odd = os.fsdecode(b"caf\xe9.jpg")
    layouts.picture(raw / "Images" / "bar, grill" / "y.jpg")
    (raw / "Images" / "bar, grill" / "y.jpg").rename(raw / "Images" / "bar, grill" / odd)
    (raw / "TrainImages.txt").write_bytes(b"bar, grill/x.jpg\nbar, grill/caf\xe9.jpg\n")
    (raw / "TestImages.txt").write_bytes(b"bar, grill/x.jpg\n")
    done = quietly("mit67", archive=raw, out=tmp_path / "out")
    assert done.num_images == {"train": 2, "test": 1}
    source = open_images(tmp_path / "out" / "train.csv")
    assert source.classes == ("bar, grill",)
    assert [source.decode(row).width for row in range(2)] == [12, 12]


def test_a_damaged_table_is_named(tmp_path):
    layouts.dogs(tmp_path / "raw")
    (tmp_path / "raw" / "train_list.mat").write_bytes(b"no table")
    with pytest.raises(SimcoreError, match=r"train_list.mat: not a readable MATLAB file"):
        quietly("dogs", archive=tmp_path / "raw", out=tmp_path / "out")


def test_a_damaged_listing_of_species_is_named(tmp_path):
    layouts.inaturalist_json(tmp_path / "raw")
    (tmp_path / "raw" / "train_mini.json").write_text('{"images": [{"id": 1}]}')
    with pytest.raises(SimcoreError, match=r"train_mini.json: not the list"):
        quietly("inaturalist", archive=tmp_path / "raw", out=tmp_path / "out")


def test_the_set_that_the_program_draws_needs_no_archive(tmp_path):
    drawn = find("datasets", "drawn")(num_train=2, num_test=2, num_pool=30, image_size=16)
    done = quietly(drawn, out=tmp_path / "out")
    assert done.name == "drawn"
    assert done.num_images == {"target": 16, "test": 16, "pool": 30}
    assert quietly(drawn, out=tmp_path / "out").done_before
    assert len(open_images(tmp_path / "out" / "target" / "train")) == 16


@pytest.mark.parametrize("part", ["aircraft", "cars", "cub", "pets"])
def test_a_part_of_imagenet_holds_its_synsets_alone(part, tmp_path):
    synsets = find("datasets", f"imagenet_sub_{part}").synsets
    for synset in (*synsets, "n01440764"):
        layouts.picture(tmp_path / "raw" / "ILSVRC" / "Data" / "CLS-LOC" / "train" / synset / f"{synset}_1.JPEG")
    quietly(f"imagenet_sub_{part}", archive=tmp_path / "raw", out=tmp_path / "out")
    source = open_images(tmp_path / "out", split="train")
    assert sorted(source.classes) == sorted(synsets)
    assert len(source) == len(synsets)


def test_a_folder_without_a_synset_of_the_part_says_what_is_wanted(tmp_path):
    layouts.picture(tmp_path / "raw" / "n01440764" / "a.JPEG")
    with pytest.raises(SimcoreError, match=r"raw: no images of imagenet_sub_cars there; .* is published as"):
        quietly("imagenet_sub_cars", archive=tmp_path / "raw", out=tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SimcoreError, match=r"empty: no folders named by synset .* there; imagenet is published as"):
        quietly("imagenet", archive=tmp_path / "empty", out=tmp_path / "out")


def test_what_an_archive_lacks_is_told_of_the_archive(pets, tmp_path):
    with tarfile.open(tmp_path / "images.tar.gz", "w:gz") as archive:
        archive.add(pets / "images", "images")
    with pytest.raises(SimcoreError, match=r"^\S*images.tar.gz: no 'annotations/trainval.txt' there"):
        quietly("pets", archive=tmp_path / "images.tar.gz", out=tmp_path / "out")
