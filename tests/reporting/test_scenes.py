"""Examples of detection and segmentation on the page: drawn where they should be, names escaped."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from simcore.artifacts import Report
from simcore.reporting import write_report
from simcore.reporting._scenes import MAX_SHOWN, scenes_of

HOSTILE = "<img src=x onerror=alert(1)>"


def shown(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")).astype(int)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (64, 32), (128, 128, 128)).save(path)
    return str(path)


def detected(image, **changes):
    example = {
        "id": HOSTILE,
        "uri": image,
        "size": [64, 32],
        "truth": [{"box": [8, 8, 24, 24], "class": "cat"}],
        "found": [{"box": [40, 4, 60, 28], "class": HOSTILE, "score": 0.875}],
        **changes,
    }
    return Report(task="detection", metrics={"mean_ap": 12.0}, details={"examples": [example]})


def test_boxes_are_drawn_where_they_are(image):
    (scene,) = scenes_of([detected(image)])
    for uri, (left, top, right, bottom) in ((scene.truth, (8, 8, 24, 24)), (scene.found, (40, 4, 60, 28))):
        pixels = shown(uri)
        changed = np.abs(pixels - 128).max(2) > 40
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        assert (
            np.abs(np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) - [left, top, right, bottom]).max()
            <= 1
        )
        assert not changed[top + 5 : bottom - 5, left + 5 : right - 5].any()
    assert scene.truth_words == "cat"
    assert scene.found_words == f"{HOSTILE} 88 %"


def test_masks_cover_their_pixels(image, tmp_path):
    truth, found = np.full((32, 64), 2, np.uint8), np.zeros((32, 64), np.uint8)
    truth[8:24, 8:24], truth[:4] = 1, 3  # foreground, and ignored
    found[8:24, 40:60] = 1
    Image.fromarray(truth).save(tmp_path / "t.png")
    Image.fromarray(found).save(tmp_path / "f.png")
    example = {
        "id": "a",
        "uri": image,
        "truth": str(tmp_path / "t.png"),
        "found": str(tmp_path / "f.png"),
        "code": {"names": ["back", "fore"], "texts": ["back=2-2", "fore=1-1"], "classes": ["back", "fore"]},
    }
    report = Report(task="segmentation", metrics={"miou": 1.0}, details={"examples": [example]})
    (scene,) = scenes_of([report])
    for uri, left, right in ((scene.truth, 8, 24), (scene.found, 40, 60)):
        covered = np.abs(shown(uri) - 128).max(2) > 25
        expected = np.zeros((32, 64), bool)
        expected[8:24, left:right] = True
        assert (covered != expected).mean() < 0.06  # the picture is compressed
    assert scene.truth_words == f"back {100 * (1792 - 256) / 1792:.0f} %, fore {100 * 256 / 1792:.0f} %"


def test_what_has_moved_or_makes_no_sense_is_left_out(image):
    assert scenes_of([detected(image + "gone")]) == []
    assert scenes_of([detected(image, truth=[{"class": "cat"}])]) == []
    assert scenes_of([detected(image, truth=3)]) == []
    assert scenes_of([Report(task="knn", metrics={"top1_k1": 1.0})]) == []


def test_no_more_are_shown_than_there_is_room_for(image):
    many = [detected(image) for _ in range(5)]
    many = [Report(task=r.task, metrics=r.metrics, details={"examples": r.details["examples"] * 30}) for r in many]
    assert len(scenes_of(many)) <= MAX_SHOWN
    assert len({scene.of for scene in scenes_of(many[:1])}) == 1


def test_the_page_shows_them_with_names_escaped(inputs, image, tmp_path):
    path = tmp_path / "report.html"
    write_report(inputs.selection, out=path, **{**inputs.as_arguments(), "evaluations": [detected(image)]})
    text = path.read_text("utf-8")
    assert 'id="scenes"' in text
    assert HOSTILE not in text
    assert "&lt;img src=x onerror=alert(1)&gt; 88 %" in text
