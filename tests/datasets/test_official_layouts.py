"""Every data set, unpacked and packed as published, becomes the source that it should."""

from __future__ import annotations

import csv
import importlib.util
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from simcore.datasets import prepare
from simcore.errors import SimcoreWarning
from simcore.images import open_images
from simcore.images.boxes import boxes_of
from simcore.images.mask_classes import IGNORED, MaskClasses
from simcore.images.masks import masked_rows, read_mask
from simcore.images.names import unescape
from simcore.registry import find

_spec = importlib.util.spec_from_file_location("layouts", Path(__file__).with_name("layouts.py"))
layouts = importlib.util.module_from_spec(_spec)
sys.modules["layouts"] = layouts
_spec.loader.exec_module(layouts)
LAYOUTS = layouts.LAYOUTS


def prepared(name, archive, out, **options):
    layout = LAYOUTS[name]
    dataset = find("datasets", name.split()[0])(**layout.settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SimcoreWarning)
        return prepare(dataset, archive=archive, out=out, quiet=True, **options)


def read(out):
    """Read the lists with nothing of simcore."""
    rows = []
    for split in ("train", "test"):
        if (out / f"{split}.csv").is_file():
            with (out / f"{split}.csv").open(encoding="utf-8", newline="") as file:
                rows += [(split, row) for row in csv.DictReader(file)]
    return rows


def facts(out):
    return [(split, row["label"] or None, row["path"]) for split, row in read(out)]


def assert_right(name, out):
    found, right = facts(out), LAYOUTS[name].rows
    assert [row[:2] for row in found] == [row[:2] for row in right]
    for (_, _, path), (_, _, end) in zip(found, right, strict=True):
        assert path.endswith(end)
        assert (out / path).is_file()


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_unpacked_folder(name, tmp_path):
    LAYOUTS[name].build(tmp_path / "raw")
    done = prepared(name, tmp_path / "raw", tmp_path / "out")
    assert_right(name, tmp_path / "out")
    assert done.left_out == LAYOUTS[name].left_out
    assert not (tmp_path / "out" / "unpacked").exists(), "links, not a second copy"
    assert all(Path(path).is_absolute() for _, _, path in facts(tmp_path / "out"))


@pytest.mark.parametrize("name", [name for name in LAYOUTS if LAYOUTS[name].archives])
def test_a_folder_of_official_archives(name, tmp_path):
    LAYOUTS[name].build(tmp_path / "raw")
    layouts.pack(LAYOUTS[name], tmp_path / "raw", tmp_path / "download")
    done = prepared(name, tmp_path / "download", tmp_path / "out")
    assert_right(name, tmp_path / "out")
    assert done.left_out == LAYOUTS[name].left_out
    assert all(path.startswith("unpacked/") for _, _, path in facts(tmp_path / "out"))
    moved = (tmp_path / "out").rename(tmp_path / "elsewhere")
    assert_right(name, moved)


@pytest.mark.parametrize("name", [name for name in LAYOUTS if LAYOUTS[name].archives])
def test_archive_files_named_one_by_one(name, tmp_path):
    LAYOUTS[name].build(tmp_path / "raw")
    layouts.pack(LAYOUTS[name], tmp_path / "raw", tmp_path / "download")
    files = [tmp_path / "download" / file for file in LAYOUTS[name].archives]
    prepared(name, files, tmp_path / "out")
    assert_right(name, tmp_path / "out")


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_source_opens_with_labels_and_pictures(name, tmp_path):
    LAYOUTS[name].build(tmp_path / "raw")
    prepared(name, tmp_path / "raw", tmp_path / "out")
    for split in {row[0] for row in LAYOUTS[name].rows}:
        right = [row for row in LAYOUTS[name].rows if row[0] == split]
        source = open_images(tmp_path / "out" / f"{split}.csv")
        names = [source.classes[label] if label >= 0 else None for label in source.labels]
        assert names == [label for _, label, _ in right]
        assert set(source.classes) == {label for label in names if label}
        assert source.decode(0).pixels.shape == (10, 12, 3)


def told(source):
    """Give what a source feeds to a task, row by row, but for where it lies."""
    for row in range(len(source)):
        boxes, label = boxes_of(source, row), source.labels[row]
        yield (
            source.classes[label] if label >= 0 else None,
            boxes.edges.tolist(),
            [source.classes[number] for number in boxes.labels],
            read_mask(source, row).tolist() if row in masked_rows(source) else None,
            source.decode(row).pixels.tolist(),
        )


@pytest.mark.parametrize("name", LAYOUTS)
def test_copies_feed_what_links_feed(name, tmp_path):
    LAYOUTS[name].build(tmp_path / "raw")
    done = prepared(name, tmp_path / "raw", tmp_path / "links")
    prepared(name, tmp_path / "raw", tmp_path / "first", copy=True)
    columns = find("datasets", name.split()[0]).attributes
    label_by = ["", *(f"#label={column}" for column in columns if name != "celeba" or column == "smiling")]
    expected = {
        (split, label): list(told(open_images(f"{tmp_path / 'links'}{label}", split=split)))
        for split in done.num_images
        for label in label_by
    }
    code = open_images(tmp_path / "links").mask_classes
    (tmp_path / "raw").rename(tmp_path / "gone")
    moved = (tmp_path / "first").rename(tmp_path / "moved")
    for (split, label), rows in expected.items():
        source = open_images(f"{moved}{label}", split=split)
        assert list(told(source)) == rows
        assert source.mask_classes == code
        assert all(Path(unescape(uri)).is_relative_to(moved) for uri in source.table["uri"].to_pylist())


@pytest.mark.parametrize("name", LAYOUTS)
def test_copies_lie_in_class_folders(name, tmp_path):
    LAYOUTS[name].build(tmp_path / "raw")
    done = prepared(name, tmp_path / "raw", tmp_path / "out", copy=True)
    for split, number in done.num_images.items():
        source = open_images(tmp_path / "out" / split)
        assert len(source) == number
        named = sorted(source.classes[label].replace("/", "_") if label >= 0 else "" for label in source.labels)
        right = sorted((row[1] or "").replace("/", "_") for row in LAYOUTS[name].rows if row[0] == split)
        assert named == right
        source.decode(len(source) - 1)


def test_any_folder_on_the_way_to_the_files_will_do(tmp_path):
    layouts.aircraft(tmp_path / "raw")
    for number, inner in enumerate((".", "fgvc-aircraft-2013b", "fgvc-aircraft-2013b/data")):
        prepared("aircraft", tmp_path / "raw" / inner, tmp_path / f"{number}")
        assert_right("aircraft", tmp_path / f"{number}")
    layouts.imagenet(tmp_path / "net")
    for inner in ("ILSVRC", "ILSVRC/Data/CLS-LOC", "ILSVRC/Data/CLS-LOC/train"):
        prepared("imagenet", tmp_path / "net" / inner, tmp_path / inner.replace("/", "-"))
        assert_right("imagenet", tmp_path / inner.replace("/", "-"))


def columns(out, *names):
    return [tuple(row[name] for name in names) for _, row in read(out)]


def test_aircraft_has_three_levels_boxes_and_the_part(tmp_path):
    layouts.aircraft(tmp_path / "raw")
    prepared("aircraft", tmp_path / "raw", tmp_path / "out")
    assert columns(tmp_path / "out", "family", "manufacturer", "part", "boxes") == [
        ("Boeing 707", "Boeing", "train", "2 3 11 9"),
        ("F-16", "Lockheed Martin", "val", "0 0 12 10"),
        ("Boeing 707", "Boeing", "test", "2 3 11 9"),  # corners given the wrong way round
    ]


def test_an_attribute_becomes_the_label(tmp_path):
    layouts.aircraft(tmp_path / "raw")
    done = prepared("aircraft", tmp_path / "raw", tmp_path / "out", attribute="manufacturer")
    assert [label for _, label, _ in facts(tmp_path / "out")] == ["Boeing", "Lockheed Martin", "Boeing"]
    assert done.num_classes == 2
    assert any("instead of 30" in line for line in done.differences)


def test_cars_without_a_body_type_are_left_out_when_it_is_the_label(tmp_path):
    layouts.cars_whole(tmp_path / "raw")
    done = prepared("cars", tmp_path / "raw", tmp_path / "out", attribute="type")
    assert facts(tmp_path / "out") == [
        ("train", "SUV", str(tmp_path / "raw" / "car_ims" / "000001.jpg")),
        ("test", "Sedan", str(tmp_path / "raw" / "car_ims" / "000003.jpg")),
    ]
    assert done.left_out == {"no type": 1}
    assert columns(tmp_path / "out", "brand", "boxes") == [("AM General", "1 2 10 9"), ("Acura", "1 2 10 9")]


def test_attributes_of_faces_are_found_by_their_beginning(tmp_path):
    layouts.celeba(tmp_path / "raw")
    prepared("celeba", tmp_path / "raw", tmp_path / "out", attribute="smil")
    assert [label for _, label, _ in facts(tmp_path / "out")] == ["no", "no", "no", "yes"] + ["yes"] * 2 + ["no"] + [
        "yes",
        "no",
    ]


def test_masks_and_species_of_pets(tmp_path):
    layouts.pets(tmp_path / "raw")
    (tmp_path / "raw" / "annotations" / "trimaps" / "american_bulldog_7.png").unlink()
    prepared("pets", tmp_path / "raw", tmp_path / "out")
    trimaps = tmp_path / "raw" / "annotations" / "trimaps"
    assert columns(tmp_path / "out", "species", "mask") == [
        ("cat", str(trimaps / "Abyssinian_100.png")),
        ("dog", ""),
        ("cat", str(trimaps / "Abyssinian_2.png")),
    ]


def test_boxes_and_masks_of_birds(tmp_path):
    layouts.cub(tmp_path / "raw")
    prepared("cub", tmp_path / "raw", tmp_path / "out")
    rows = columns(tmp_path / "out", "boxes", "mask")
    assert [boxes for boxes, _ in rows] == ["0 0 12 10", "2.5 1 6.5 5", "1 2 6 8"]
    assert all(Path(mask).is_file() for _, mask in rows)


@pytest.mark.parametrize(("name", "layout"), [("aircraft", "aircraft"), ("cars", "cars_whole"), ("cub", "cub")])
def test_boxes_of_prepared_sets_are_part_of_the_source(tmp_path, name, layout):
    getattr(layouts, layout)(tmp_path / "raw")
    prepared(name, tmp_path / "raw", tmp_path / "out")
    source = open_images(tmp_path / "out", split="train") + open_images(tmp_path / "out", split="test")
    listed = [[float(edge) for edge in boxes.split()] for (boxes,) in columns(tmp_path / "out", "boxes")]
    for row, edges in enumerate(listed):
        found = boxes_of(source, row)
        assert found.edges.tolist() == [edges]
        assert found.labels.tolist() == [source.labels[row]]


@pytest.mark.parametrize(("name", "stored"), [("pets", [0, 1, 2, 3]), ("cub", [0, 50, 51, 204, 205, 255])])
def test_masks_of_prepared_sets_mean_what_was_published(tmp_path, name, stored):
    getattr(layouts, name)(tmp_path / "raw")
    prepared(name, tmp_path / "raw", tmp_path / "out")
    source = open_images(tmp_path / "out", split="all")
    code = MaskClasses.parse(source.mask_classes)
    assert open_images(tmp_path / "out" / "train.csv").mask_classes == source.mask_classes
    published = {"pets": {1: 1, 2: 0}, "cub": {0: 0, 50: 0, 205: 1, 255: 1}}[name]
    assert code.names == ("background", "foreground")
    assert code.numbers(np.array([stored])).tolist() == [[published.get(value, IGNORED) for value in stored]]
    assert all(set(np.unique(code.numbers(read_mask(source, row)))) <= {0, 1, IGNORED} for row in range(len(source)))


@pytest.mark.parametrize("content", ["", "[]", '{"mask_classes": []}', "\x00"])
def test_a_note_of_another_kind_says_nothing_of_masks(tmp_path, content):
    layouts.pets(tmp_path / "raw")
    prepared("pets", tmp_path / "raw", tmp_path / "out")
    (tmp_path / "out" / "dataset.json").write_text(content)
    assert open_images(tmp_path / "out" / "train.csv").mask_classes == ()
    assert open_images(tmp_path / "out").mask_classes == ()


def test_copied_masks_stand_beside_the_copied_images(tmp_path):
    layouts.cub(tmp_path / "raw")
    prepared("cub", tmp_path / "raw", tmp_path / "out", copy=True)
    _, row = read(tmp_path / "out")[0]
    assert row["path"] == "train/002.Laysan_Albatross/Laysan_Albatross_0002_1027.jpg"
    assert (tmp_path / "out" / row["mask"]).is_file()


@pytest.mark.parametrize("links", [True, False])
def test_copies_from_archives_keep_no_second_copy(links, tmp_path, monkeypatch):
    def refuse(self, target):
        raise PermissionError

    if not links:
        monkeypatch.setattr(Path, "hardlink_to", refuse)
    layouts.pets(tmp_path / "raw")
    layouts.pack(LAYOUTS["pets"], tmp_path / "raw", tmp_path / "download")
    prepared("pets", tmp_path / "download", tmp_path / "out", copy=True)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "train", "test", "masks", "train.csv", "test.csv", "dataset.json",
    }  # fmt: skip
    assert len(open_images(tmp_path / "out", split="all")) == 3
    assert all(path.stat().st_nlink == 1 for path in (tmp_path / "out").rglob("*") if path.is_file())


def test_another_fold_of_the_textures(tmp_path):
    layouts.dtd(tmp_path / "raw")
    dataset = find("datasets", "dtd")(fold=2)
    with pytest.warns(SimcoreWarning):
        prepare(dataset, archive=tmp_path / "raw", out=tmp_path / "out", quiet=True)
    assert [label for _, label, _ in facts(tmp_path / "out")] == ["woven", "banded", "banded"]


def test_food_in_folders_per_class(tmp_path):
    for name in ("training/Bread/0.jpg", "validation/Soup/0.jpg", "evaluation/Bread/0.jpg"):
        layouts.picture(tmp_path / "raw" / name)
    prepared("food11", tmp_path / "raw", tmp_path / "out", copy=True)
    assert open_images(tmp_path / "out").classes == ("Bread", "Soup")


def test_equal_names_in_one_class_do_not_overwrite_each_other(tmp_path):
    layouts.food11(tmp_path / "raw")
    prepared("food11", tmp_path / "raw", tmp_path / "out", copy=True)
    found = sorted(path.name for path in (tmp_path / "out" / "train" / "Bread").iterdir())
    assert found == ["0_0.jpg", "validation_0_0.jpg"]


def test_the_tar_of_tars_of_imagenet(tmp_path):
    layouts.imagenet(tmp_path / "raw")
    train = tmp_path / "raw" / "ILSVRC" / "Data" / "CLS-LOC" / "train"
    inner = {}
    for synset in ("n01440764", "n02690373"):
        files = {path.name: path.read_bytes() for path in sorted((train / synset).iterdir())}
        layouts.write_archive(tmp_path / f"{synset}.tar", files)
        inner[f"{synset}.tar"] = (tmp_path / f"{synset}.tar").read_bytes()
    layouts.write_archive(tmp_path / "ILSVRC2012_img_train.tar", inner)
    prepared("imagenet", tmp_path / "ILSVRC2012_img_train.tar", tmp_path / "whole")
    assert_right("imagenet", tmp_path / "whole")
    prepared("imagenet_sub_aircraft", tmp_path / "ILSVRC2012_img_train.tar", tmp_path / "part")
    assert_right("imagenet_sub_aircraft", tmp_path / "part")
    assert not list((tmp_path / "part").rglob("n01440764*")), "what is not wanted is not unpacked"


def test_a_folder_of_the_tars_of_synsets(tmp_path):
    layouts.imagenet(tmp_path / "raw")
    train = tmp_path / "raw" / "ILSVRC" / "Data" / "CLS-LOC" / "train"
    (tmp_path / "tars").mkdir()
    for synset in ("n01440764", "n02690373"):
        files = {path.name: path.read_bytes() for path in sorted((train / synset).iterdir())}
        layouts.write_archive(tmp_path / "tars" / f"{synset}.tar", files)
    prepared("imagenet", tmp_path / "tars", tmp_path / "whole")
    assert_right("imagenet", tmp_path / "whole")


def test_webvision_without_its_lists_takes_queries_as_classes(tmp_path):
    layouts.webvision(tmp_path / "raw")
    for path in (tmp_path / "raw" / "info").iterdir():
        path.unlink()
    prepared("webvision", tmp_path / "raw", tmp_path / "out")
    assert [label for _, label, _ in facts(tmp_path / "out")] == ["google_q0001", "google_q0007", "flickr_q0001"]


def test_places_without_its_list_walks_the_folders(tmp_path):
    layouts.places(tmp_path / "raw")
    (tmp_path / "raw" / "places365_train_challenge.txt").unlink()
    prepared("places", tmp_path / "raw", tmp_path / "out")
    assert_right("places", tmp_path / "out")


def test_the_ranks_of_species(tmp_path):
    layouts.inaturalist(tmp_path / "raw")
    prepared("inaturalist", tmp_path / "raw", tmp_path / "out", attribute="family")
    assert [label for _, label, _ in facts(tmp_path / "out")] == ["Lumbricidae", "Lumbricidae", "Parulidae"]


def test_everything_from_parts_that_were_prepared_before(tmp_path):
    for name in ("coco", "inaturalist", "imagenet", "places"):
        getattr(layouts, name)(tmp_path / "raw" / name)
        prepared(name, tmp_path / "raw" / name, tmp_path / "data" / name)
    prepared("everything", tmp_path / "data", tmp_path / "out")
    assert_right("everything", tmp_path / "out")
