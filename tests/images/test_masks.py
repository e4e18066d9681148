"""Masks as stored, and what their values or colours mean."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from simcore.errors import SimcoreError, UsageError
from simcore.images import Unreadable, open_images
from simcore.images.faults import DEFAULT_LIMITS
from simcore.images.mask_classes import IGNORED, MaskClasses
from simcore.images.masks import decode_mask, has_masks, masked_rows, read_mask


def encoded(picture, kind="PNG"):
    held = io.BytesIO()
    picture.save(held, kind)
    return held.getvalue()


def ring():
    values = np.full((16, 16), 255, np.uint8)
    values[1:8, 1:15], values[8:15, 1:8], values[8:15, 8:15] = 0, 1, 2
    return values


def palette(values):
    picture = Image.fromarray(values).convert("P")
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [0] * (252 * 3) + [224, 224, 192])
    picture.putdata(values.ravel().tolist())
    return picture


def test_palettes_are_read_as_indices_and_no_value_is_scaled():
    assert (decode_mask(encoded(palette(ring())), DEFAULT_LIMITS) == ring()).all()
    assert (decode_mask(encoded(Image.fromarray(ring())), DEFAULT_LIMITS) == ring()).all()
    wide = ring().astype(np.uint16) * 3
    assert (decode_mask(encoded(Image.fromarray(wide)), DEFAULT_LIMITS) == wide).all()
    bits = ring() == 1
    assert (decode_mask(encoded(Image.fromarray(bits)), DEFAULT_LIMITS) == bits).all()


def test_a_mask_that_lost_its_values_or_its_end_is_refused():
    with pytest.raises(Unreadable, match="JPEG"):
        decode_mask(encoded(Image.fromarray(ring()), "JPEG"), DEFAULT_LIMITS)
    with pytest.raises(Unreadable, match="damaged mask"):
        decode_mask(encoded(Image.fromarray(ring()))[:60], DEFAULT_LIMITS)


def test_what_is_not_named_is_ignored():
    code = MaskClasses.parse(["back=0-50", "fore=205-255,100"])
    values = np.arange(256).reshape(16, 16)
    literal = [0 if v <= 50 else 1 if v >= 205 or v == 100 else IGNORED for v in range(256)]
    assert code.numbers(values).ravel().tolist() == literal
    assert code.names == ("back", "fore")


def test_colours_are_named_by_their_six_digits():
    code = MaskClasses.parse(["sky=#80C0ff", "road=#010203"])
    pixels = np.array([[[128, 192, 255], [1, 2, 3], [3, 2, 1]]], np.uint8)
    assert code.numbers(pixels).tolist() == [[0, 1, IGNORED]]
    assert MaskClasses.parse(["a=7"]).numbers(np.full((1, 2, 3), 7, np.uint8)).tolist() == [[0, 0]]  # grey as colour


@pytest.mark.parametrize("texts", [["sky"], ["=3"], ["sky=blue"], ["a=1-5", "b=5"], ["sky=#12345"]])
def test_unclear_classes_are_refused(texts):
    with pytest.raises(UsageError, match="mask class"):
        MaskClasses.parse(texts)


def test_values_may_name_themselves():
    code = MaskClasses.of_values([9, 2, 0])
    assert code.names == ("0", "2", "9")
    assert code.numbers(np.array([[9, 2, 0, 5]])).tolist() == [[2, 1, 0, IGNORED]]


def write(folder, names, suffix="png"):
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for name in names:
        Image.new("RGB", (16, 16)).save(folder / "images" / f"{name}.jpg")
        palette(ring()).save(folder / "masks" / f"{name}.{suffix}")


def test_a_folder_of_pairs(tmp_path):
    write(tmp_path, ["a", "b"])
    Image.new("RGB", (16, 16)).save(tmp_path / "images" / "c.jpg")
    source = open_images(f"masks:{tmp_path}")
    assert masked_rows(source).tolist() == [0, 1]
    assert (read_mask(source, 1) == ring()).all()
    assert masked_rows(source.take([2, 1])).tolist() == [1]
    before = source.fingerprint
    Image.fromarray(ring()).save(tmp_path / "masks" / "b.png")
    assert open_images(f"masks:{tmp_path}").fingerprint != before


def test_a_folder_of_splits_of_pairs(tmp_path):
    write(tmp_path / "train", ["a"])
    write(tmp_path / "val", ["b", "c"], "tif")
    assert len(open_images(f"masks:{tmp_path}")) == 1
    assert masked_rows(open_images(f"masks:{tmp_path}", split="test")).tolist() == [0, 1]
    assert len(open_images(f"masks:{tmp_path}#split=all")) == 3
    with pytest.raises(SimcoreError, match="no images/ and masks/"):
        open_images(f"masks:{tmp_path / 'train' / 'images'}")


def test_a_column_of_a_table_names_masks(tmp_path):
    write(tmp_path, ["a", "b"])
    (tmp_path / "list.csv").write_text("path,mask\nimages/a.jpg,masks/a.png\nimages/b.jpg,\nimages/b.jpg,x\n")
    with pytest.warns(match="listed already"):
        source = open_images(tmp_path / "list.csv")
    assert has_masks(source)
    assert masked_rows(source).tolist() == [0]
    (tmp_path / "masks" / "a.png").unlink()
    with pytest.raises(Unreadable, match="its mask: missing file"):
        read_mask(source, 0)


def test_masks_of_other_meaning_are_not_joined(tmp_path):
    import dataclasses

    write(tmp_path, ["a"])
    one = dataclasses.replace(open_images(f"masks:{tmp_path}"), mask_classes=("a=0",))
    assert (one + one).mask_classes == ("a=0",)
    with pytest.raises(SimcoreError, match="different classes"):
        one + dataclasses.replace(one, mask_classes=("b=0",))
