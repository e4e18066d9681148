"""Boxes of COCO JSON, VOC XML and tables: what is kept, what is dropped, and under which class."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from simcore.errors import SimcoreError, SimcoreWarning, UsageError
from simcore.images import open_images
from simcore.images.boxes import box_labels, boxed_rows, boxes_of, clipped, has_area, has_boxes

# (image, category, x y width height); annotations 4, 5 and 7 are no boxes of anything
FAULTY = [
    (11, 1, [10, 20, 5, 8]),
    (11, 3, [30, 5, 20, 20]),
    (12, 7, [50, 40, 30, 20]),
    (12, 1, [12, 12, 0, 9]),
    (13, 3, [5, 5, 10, -4]),
    (13, 7, [0, 0, 64, 48]),
    (12, 1, [70, 10, 5, 5]),
    (14, 1, [1, 1, 2, 2]),
]


def picture(path, size=(64, 48)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 200)).save(path)


def coco(folder, boxes, *, where="images", categories=(1, 3, 7), images=(11, 12, 13, 14), **more):
    for number in images:
        picture(folder / where / f"{number}.png")
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 48} for i in images],
        "categories": [{"id": c, "name": f"cat{c}"} for c in categories],
        "annotations": [
            {"id": n + 1, "image_id": i, "category_id": c, "bbox": box, "iscrowd": 0, **more}
            for n, (i, c, box) in enumerate(boxes)
        ],
    }
    path = folder / "instances_train2017.json"
    path.write_text(json.dumps(content))
    return path


def test_coco_keeps_what_has_area_inside_its_image_and_tells_of_the_rest_once(tmp_path):
    with pytest.warns(SimcoreWarning) as told:
        source = open_images(coco(tmp_path, FAULTY))
    assert [str(warning.message).partition(": ")[2] for warning in told] == [
        "3 of 8 boxes dropped, without area or outside the image (annotation 4, annotation 7, annotation 5)"
    ]
    assert source.classes == ("cat1", "cat3", "cat7")
    assert source.category_ids == (1, 3, 7)
    boxes = [boxes_of(source, row) for row in range(4)]
    assert [len(found) for found in boxes] == [2, 1, 1, 1]
    assert boxes[0].edges.tolist() == [[10, 20, 15, 28], [30, 5, 50, 25]]
    assert boxes[0].labels.tolist() == [0, 1]
    assert boxes[1].edges.tolist() == [[50, 40, 64, 48]]
    assert box_labels(source).tolist() == [0, 1, 2, 2, 0]


@pytest.mark.parametrize("where", [".", "images", "train2017"])
def test_coco_finds_its_images_beside_the_file(tmp_path, where):
    source = open_images(f"coco:{coco(tmp_path, FAULTY[:1], where=where)}")
    assert source.decode(0).width == 64
    assert [len(boxes_of(source, row)) for row in range(4)] == [1, 0, 0, 0]
    assert boxed_rows(source).tolist() == [0, 1, 2, 3]


def test_coco_takes_any_integer_as_an_id_and_keeps_crowds_apart(tmp_path):
    boxes = [(-5, 90210, [1, 1, 5, 5]), (-5, -3, [2, 2, 5, 5])]
    path = coco(tmp_path, boxes, categories=(90210, -3, 0), images=(-5, 8))
    source = open_images(path)
    assert source.category_ids == (-3, 0, 90210)
    assert boxes_of(source, 0).labels.tolist() == [2, 0]
    content = json.loads(path.read_text())
    content["annotations"][0]["iscrowd"] = 1
    path.write_text(json.dumps(content))
    changed = open_images(path)
    assert boxes_of(changed, 0).crowd.tolist() == [True, False]
    assert box_labels(changed).tolist() == [0]
    assert changed.fingerprint != source.fingerprint


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": None}, "no list 'images'"),
        ({"annotations": [{"id": 1, "image_id": 11, "category_id": 2, "bbox": [0, 0, 1, 1]}]}, "category 2"),
        ({"annotations": [{"id": 1, "image_id": 9, "category_id": 1, "bbox": [0, 0, 1, 1]}]}, "image 9"),
        ({"annotations": [{"id": 1, "image_id": 11, "category_id": 1, "bbox": [0, 0, 1]}]}, "bbox is not"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "two categories have one id"),
        ({"images": [{"id": 1, "file_name": "gone.png"}]}, "gone.png"),
    ],
)
def test_coco_files_that_make_no_sense_are_refused_in_one_line(tmp_path, change, said):
    path = coco(tmp_path, FAULTY[:1])
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(SimcoreError, match=said) as refusal:
        open_images(path)
    assert "\n" not in str(refusal.value)


def test_what_is_no_json_or_a_folder_is_refused(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(SimcoreError, match="not a JSON file"):
        open_images(tmp_path / "a.json")
    with pytest.raises(UsageError, match=r"name the \.json file"):
        open_images(f"coco:{tmp_path}")


XML = """<annotation><filename>{name}.jpg</filename><size><width>64</width><height>48</height><depth>3</depth></size>
{objects}</annotation>"""
OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult>
<bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox></object>"""


def voc(folder, *, images="JPEGImages", annotations="Annotations"):
    scenes = {"b": [("dog", 0, (1, 1, 64, 48)), ("cat", 1, (5, 6, 5, 6))], "a": [], "c": [("dog", 0, (60, 40, 90, 90))]}
    for name, objects in scenes.items():
        picture(folder / images / f"{name}.jpg")
        (folder / annotations).mkdir(exist_ok=True)
        text = "".join(OBJECT.format(*box, name=kind, difficult=hard) for kind, hard, box in objects)
        (folder / annotations / f"{name}.xml").write_text(XML.format(name=name, objects=text))
    return folder


def test_voc_counts_from_one_and_its_last_pixel_is_inside(tmp_path):
    source = open_images(voc(tmp_path))
    assert source.classes == ("cat", "dog")
    assert source.table["id"].to_pylist() == [f"JPEGImages/{name}.jpg" for name in "abc"]
    assert len(boxes_of(source, 0)) == 0
    assert boxes_of(source, 1).edges.tolist() == [[0, 0, 64, 48], [4, 5, 5, 6]]
    assert boxes_of(source, 1).crowd.tolist() == [False, True]
    assert boxes_of(source, 2).edges.tolist() == [[59, 39, 64, 48]]


def test_voc_splits_are_its_image_sets(tmp_path):
    voc(tmp_path)
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    for name, content in (("train", "c\na\n"), ("val", "b\n"), ("cat_train", "a -1\n")):
        (tmp_path / "ImageSets" / "Main" / f"{name}.txt").write_text(content)
    ids = {split: open_images(tmp_path, split=split).table["id"].to_pylist() for split in ("train", "test", "all")}
    assert ids["train"] == ["JPEGImages/c.jpg", "JPEGImages/a.jpg"]
    assert ids["test"] == ["JPEGImages/b.jpg"]
    assert len(ids["all"]) == 3
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("zz\n")
    with pytest.raises(SimcoreError, match="names 'zz'"):
        open_images(tmp_path)


def test_xml_beside_the_images_is_taken_if_asked_for(tmp_path):
    source = open_images(f"voc:{voc(tmp_path, images='.', annotations='.')}")
    assert source.table["id"].to_pylist() == ["a.jpg", "b.jpg", "c.jpg"]
    (tmp_path / "b.xml").write_text('<!DOCTYPE x [<!ENTITY a "b">]><annotation/>')
    with pytest.raises(SimcoreError, match=r"b\.xml"):
        open_images(f"voc:{tmp_path}")


def table(folder, text):
    for name in "abc":
        picture(folder / f"{name}.png")
    path = folder / "list.csv"
    path.write_text(text)
    return path


def test_a_box_of_a_table_has_the_label_of_its_row_or_a_class_of_its_own(tmp_path):
    text = "path,label,boxes\na.png,dog,1 2 30 40;5 5 9 9 a cat\nb.png,dog,\nc.png,,3 3 4 4\n"
    source = open_images(table(tmp_path, text))
    assert source.classes == ("dog", "a cat", "object")
    assert source.labels.tolist() == [0, 0, -1]
    assert boxes_of(source, 0).edges.tolist() == [[1, 2, 30, 40], [5, 5, 9, 9]]
    assert [boxes_of(source, row).labels.tolist() for row in range(3)] == [[0, 1], [], [2]]
    assert boxed_rows(source).tolist() == [0, 1, 2]


def test_a_table_without_boxes_has_none_and_a_broken_cell_is_told(tmp_path):
    assert not has_boxes(open_images(table(tmp_path, "path,label\na.png,dog\n")))
    with pytest.raises(SimcoreError, match="left top right bottom"):
        open_images(table(tmp_path, "path,boxes\na.png,1 2 3\n"))
    with pytest.warns(SimcoreWarning, match="1 of 1 boxes dropped"):
        open_images(table(tmp_path, "path,boxes\na.png,9 2 9 4\n"))


def test_boxes_follow_their_rows_through_take_join_and_pickle(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = open_images(table(tmp_path / "one", "path,boxes\na.png,1 1 2 2 cat\nb.png,\nc.png,4 4 8 8 dog\n"))
    two = open_images(table(tmp_path / "two", "path,boxes\na.png,2 2 3 3 emu;0 0 1 1 dog\n"))
    plain = open_images(table(tmp_path, "path,label\nb.png,gnu\n"))
    joined = pickle.loads(pickle.dumps((one.take([2, 0]) + two) + plain))
    named = [[joined.classes[label] for label in boxes_of(joined, row).labels] for row in range(len(joined))]
    assert named == [["dog"], ["cat"], ["emu", "dog"], []]
    assert boxes_of(joined, 2).edges.tolist() == [[2, 2, 3, 3], [0, 0, 1, 1]]
    assert boxed_rows(joined).tolist() == [0, 1, 2]
    assert boxed_rows(plain + one).tolist() == [1, 2, 3]
    assert one.fingerprint != one.take([0, 2, 1]).fingerprint


numbers = st.floats(-50, 150, width=32)


@given(st.lists(st.tuples(numbers, numbers, numbers, numbers), min_size=1), st.integers(1, 90), st.integers(1, 90))
def test_clipping_leaves_the_pixels_that_lie_in_both(boxes, width, height):
    edges = clipped(np.array(boxes, np.float64), width, height)
    for (left, top, right, bottom), found, kept in zip(boxes, edges, has_area(edges), strict=True):
        wide = min(right, width) - max(left, 0) if right > left else 0.0
        high = min(bottom, height) - max(top, 0) if bottom > top else 0.0
        assert kept == (wide > 0 and high > 0)
        if kept:
            assert found.tolist() == [max(left, 0), max(top, 0), min(right, width), min(bottom, height)]
