from __future__ import annotations

import base64
import dataclasses
import hashlib
import html.parser
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from simcore.artifacts import Report, Selection
from simcore.errors import SimcoreError
from simcore.reporting import write_report


class Reader(html.parser.HTMLParser):
    """Tags, text and scripts of a page, by an independent parser."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.text, self._inside = [], [], "", None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.text += " "
        if tag in ("script", "style"):
            self._inside = tag
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.text += " "
        if tag == self._inside:
            self._inside = None

    def handle_data(self, data):
        if self._inside:
            self.scripts[-1] += data
        else:
            self.text += data

    @property
    def data(self):
        return json.loads(self.scripts[1])


@pytest.fixture
def write(inputs, tmp_path):
    def written(selection=None, **changes):
        path = tmp_path / "report.html"
        write_report(selection or inputs.selection, out=path, **{**inputs.as_arguments(), **changes})
        return Reader(path.read_text("utf-8"))

    return written


def test_the_page_is_one_file_that_asks_for_nothing(write):
    page = write()
    outside = [
        v
        for _, attrs in page.tags
        for n, v in attrs.items()
        if n in ("src", "href") and not v.startswith(("#", "data:"))
    ]
    assert outside == []
    assert "url(" not in page.scripts[0]
    assert "@import" not in page.scripts[0]
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(page.scripts[2].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_the_data_are_the_selection(write, inputs):
    picks, chosen = write().data["picks"], inputs.selection
    assert picks["id"] == list(chosen.ids)
    assert picks["index"] == chosen.indices.tolist()
    assert picks["round"] == chosen.rounds.tolist()
    assert picks["cluster"] == chosen.clusters.tolist()
    assert picks["label"] == chosen.labels.tolist()
    np.testing.assert_allclose(picks["similarity"], chosen.similarities, atol=6e-5)
    assert picks["hit"] == [int(label < 3) for label in chosen.labels]


def test_header_says_counts_reason_and_precision(write):
    text = " ".join(write().text.split())
    assert "40 of 200 pool images" in text
    assert "Chosen by simcore from a/pool for a/target , 30 images." in text
    assert "The next round's mean similarity lay below the threshold (0.6 of round 2's)." in text
    assert "of a target class 50.0 % by label; 1.0 times the pool's 50.5 %" in text


def test_where_the_stop_is_recorded_its_figures_are_told(write, inputs):
    stop = {"round": 9, "objective": 0.5, "threshold": 0.5357}
    chosen = dataclasses.replace(inputs.selection, settings={**inputs.selection.settings, "stop": stop})
    assert "Round 9 was discarded: its mean similarity 0.5000 lay below the threshold 0.5357" in write(chosen).text


@pytest.mark.parametrize(
    ("reason", "words"), [("budget", "The budget of 100 was reached"), ("exhausted", "Every usable image of the pool")]
)
def test_other_reasons(write, inputs, reason, words):
    assert words in write(dataclasses.replace(inputs.selection, stop_reason=reason)).text


def test_charts_hold_objective_threshold_and_precision_of_every_prefix(write, inputs):
    charts, chosen = write().data["charts"], inputs.selection
    (line,) = charts["objective"]["series"]
    assert line["x"] == list(range(1, 9))
    np.testing.assert_allclose(line["y"], chosen.objective)
    assert charts["objective"]["rules"][0]["y"] == pytest.approx(0.6 * chosen.objective[1])
    (precision,) = charts["precision"]["series"]
    for budget, value in zip(precision["x"], precision["y"], strict=True):
        prefix = chosen.prefix(int(budget))
        assert value == pytest.approx(
            100 * np.mean([chosen.classes[i] in ("ash", "birch", "clover") for i in prefix.labels])
        )


def test_nearest_target_image_and_map_agree_with_the_features(write, inputs):
    data = write().data
    target = np.asarray(inputs.target.features, np.float64)
    pool = np.asarray(inputs.pool.features, np.float64)[inputs.selection.indices]
    cosine = (pool / np.linalg.norm(pool, axis=1, keepdims=True)) @ (
        target / np.linalg.norm(target, axis=1, keepdims=True)
    ).T
    ids = inputs.target.table["id"].to_pylist()
    assert [data["targets"]["id"][p] for p in data["picks"]["nearest"]] == [ids[row] for row in cosine.argmax(axis=1)]
    np.testing.assert_allclose(data["picks"]["nearestSimilarity"], cosine.max(axis=1), atol=2e-3)
    assert len(data["map"]["target"]) == 30
    assert len(data["map"]["picks"]) == 40
    assert len(data["map"]["pool"]) == 160
    points = np.asarray(data["map"]["target"] + data["map"]["pool"] + data["map"]["picks"])
    assert points.min() == 0
    assert points.max() == 2000


def test_unreadable_pictures_and_equal_files_are_seen(write):
    page = write()
    picks = page.data["picks"]
    assert [bool(thumb) for thumb in picks["thumb"]] == [row != 9 for row in range(7, 47)]
    assert page.data["duplicates"] == [{"picks": [3, 4], "targets": [], "same": True}]
    assert "1 picks are shown by name only: their files could not be read" in " ".join(page.text.split())
    assert base64.b64decode(picks["thumb"][0])[8:12] == b"WEBP"


def test_a_pick_that_looks_like_a_target_image_is_told(write, inputs):
    held = io.BytesIO()
    Image.open(io.BytesIO(inputs.target_images.bytes[5])).save(held, "JPEG", quality=95, subsampling=0)
    inputs.pool_images.bytes[20] = held.getvalue()
    data = write().data
    (found,) = [group for group in data["duplicates"] if group["targets"]]
    assert (found["picks"], found["same"]) == ([13], False)
    assert [data["targets"]["id"][place] for place in found["targets"]] == ["clover/005.jpg"]


def test_pictures_are_found_by_id_so_the_coreset_alone_will_do(write, inputs):
    rows = inputs.selection.indices[::-1].tolist()
    part = type(inputs.pool_images)([inputs.pool_images.table["id"][row].as_py() for row in rows])
    part.bytes = [inputs.pool_images.bytes[row] for row in rows]
    assert write(pool_images=part).data["picks"]["thumb"] == write().data["picks"]["thumb"]


def test_evaluation_gives_mean_and_deviation_over_seeds(write):
    table = " ".join(write().text.split())
    assert "Mean and standard deviation over 2 seeds" in table
    assert "target 40.50 ± 0.71 40.50 ± 0.71 simcore 50.50 ± 0.71 50.50 ± 0.71" in re.sub(r"\s*(±)\s*", r" \1 ", table)


def test_one_report_without_arm_or_seed_is_enough(write):
    page = write(
        evaluations=[Report(task="linear", metrics={"top1": 61.5, "loss": 1.0}, parents={"encoder": "runs/a"})]
    )
    assert "runs/a 61.50" in " ".join(page.text.split())
    assert "One seed" in page.text


def test_columns_that_say_the_same_again_are_left_out(write):
    metrics = {"top1": 61.5, "top5": 90.0, "mean_per_class": 61.500001, "mean_per_class_published": 60.0, "loss": 1.0}
    page = write(evaluations=[Report(task="linear", metrics=metrics, settings={"arm": "a"})])
    headers = re.findall(r"linear\s+([a-z0-9 ]+?)\s{2,}", page.text)
    assert headers == ["top1", "top5"]


def test_training_curves_come_from_the_runs_that_have_a_log(write, tmp_path):
    run = tmp_path / "simcore-seed0"
    run.mkdir()
    lines = [{"event": "step", "epoch": 1, "loss": 9.0}, {"event": "epoch", "epoch": 1, "loss": 5.0}]
    lines += [{"event": "epoch", "epoch": 2, "loss": None}, {"event": "epoch", "epoch": 3, "loss": 4.0}]
    (run / "log.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"event": "epo')
    (series,) = write(runs=[run, tmp_path / "missing"]).data["charts"]["training"]["series"]
    assert (series["name"], series["x"], series["y"]) == ("simcore-seed0", [1, 3], [5.0, 4.0])


def test_left_out_lists_reasons_with_counts(write, inputs, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    skipped = {"id": ["a.jpg", "<b>.jpg", "c.jpg"], "reason": ["truncated", "truncated", "empty"]}
    pq.write_table(pa.table(skipped), tmp_path / "skipped.parquet")
    pool = dataclasses.replace(inputs.pool, path=tmp_path, info={"num_skipped": 3})
    text = " ".join(write(pool=pool).text.split())
    assert re.search(r"pool\s*2\s*truncated\s*a\.jpg, <b>\.jpg", text)
    assert re.search(r"pool\s*1\s*empty\s*c\.jpg", text)
    assert re.search(r"pool\s*2\s*feature row holds NaN, infinity or only zeros", text)


def test_random_selection_without_similarities_clusters_or_labels(write, inputs):
    count = len(inputs.selection)
    chosen = dataclasses.replace(
        inputs.selection,
        rounds=np.zeros(count, np.int32),
        clusters=np.full(count, -1, np.int32),
        similarities=np.full(count, np.nan, np.float32),
        objective=(),
        labels=None,
        classes=(),
        stop_reason="budget",
        settings={"selector": "random", "seed": 0},
    )
    page = write(chosen)
    assert page.data["picks"]["similarity"] == [None] * count
    assert page.data["charts"] == {}
    assert "mean similarity" not in page.text


def test_a_bare_or_empty_selection_gives_a_page_too(inputs, tmp_path):
    empty = inputs.selection.prefix(0)
    for chosen in (
        empty,
        Selection(
            **{f: getattr(empty, f) for f in ("indices", "rounds", "clusters", "similarities")}, stop_reason="budget"
        ),
    ):
        page = Reader(write_report(chosen, out=tmp_path / "r.html").read_text("utf-8"))
        assert "0 pool images" in page.text
    page = Reader(write_report(empty, out=tmp_path / "r.html", **inputs.as_arguments()).read_text("utf-8"))
    assert page.data["map"] is None


def test_features_that_do_not_fit_the_selection_are_not_used(write, inputs):
    other = dataclasses.replace(inputs.target, features=inputs.pool.features.__class__([np.zeros((30, 3), np.float16)]))
    assert write(target=other).data["map"] is None


def test_equal_inputs_give_equal_bytes(inputs, tmp_path):
    for name in ("a", "b"):
        write_report(inputs.selection, out=tmp_path / name, **inputs.as_arguments())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_thumbnails_stay_within_their_room_earliest_first(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr("simcore.reporting._album.PAGE_BYTES", 20_000)
    page = Reader(write_report(inputs.selection, out=tmp_path / "r.html", **inputs.as_arguments()).read_text("utf-8"))
    shown = [bool(thumb) for thumb in page.data["picks"]["thumb"]]
    assert 0 < sum(shown) < 39
    assert sum(map(len, page.data["picks"]["thumb"])) < 20_000
    assert shown.index(False) > 0
    assert "earlier picks come first" in page.text


def test_a_page_that_cannot_be_written_is_one_clear_error_and_leaves_nothing(inputs, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(SimcoreError, match="cannot be written"):
        write_report(inputs.selection, out=tmp_path / "file" / "r.html")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_more_picks_than_a_page_lists_are_counted_and_said(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr("simcore.reporting.page.MAX_SHOWN", 25)
    monkeypatch.setattr("simcore.reporting._album.MAX_PICK_PICTURES", 10)
    page = Reader(write_report(inputs.selection, out=tmp_path / "r.html", **inputs.as_arguments()).read_text("utf-8"))
    assert len(page.data["picks"]["id"]) == len(page.data["map"]["picks"]) == 25
    assert [bool(thumb) for thumb in page.data["picks"]["thumb"]] == [place < 10 and place != 2 for place in range(25)]
    assert page.data["charts"]["precision"]["series"][0]["x"][-1] == 40
    text = " ".join(page.text.split())
    assert "40 of 200 pool images" in text
    assert "The first 25 of 40 are listed." in text


def test_base_rate_counts_labelled_rows_by_class_name(inputs):
    from simcore.reporting._curves import base_rate

    assert base_rate(inputs.pool, inputs.target) == pytest.approx(np.mean(np.arange(200) % 6 < 3))
    part = dataclasses.replace(inputs.target, table=inputs.target.table.slice(0, 1))  # only 'ash' is there
    assert base_rate(inputs.pool, part) == pytest.approx(np.mean(np.arange(200) % 6 == 0))


def test_base_rate_leaves_out_the_target_s_own_images(inputs):
    from simcore.reporting._curves import base_rate

    own = np.arange(0, 180, 6)  # the target's 30 images are in the pool, too
    uris = inputs.pool.table["uri"].take(own)
    target = dataclasses.replace(inputs.target, table=inputs.target.table.set_column(2, "uri", uris))
    rest = np.setdiff1d(np.arange(200), own)
    assert base_rate(inputs.pool, target) == pytest.approx(np.mean(rest % 6 < 3))
