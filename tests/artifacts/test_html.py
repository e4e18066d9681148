"""What a notebook shows; a hostile name stays text."""

from __future__ import annotations

import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from simcore.artifacts import Checkpoint, Embeddings, Report, Selection
from simcore.images import open_images

HOSTILE = "<script>alert(1)</script>&\"'"


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)

    def handle_data(self, data):
        self.text += data


def selection(count: int) -> Selection:
    return Selection(
        indices=np.arange(count),
        rounds=np.ones(count, np.int32),
        clusters=np.zeros(count, np.int32),
        similarities=np.full(count, 0.5, np.float32),
        stop_reason="budget",
        ids=tuple(f"{HOSTILE}{i}" for i in range(count)),
        uris=tuple(f"/x/{i}" for i in range(count)),
        settings={"selector": HOSTILE},
    )


@pytest.fixture
def shown(tmp_path):
    folder = tmp_path / "images" / HOSTILE.replace("/", "%2F")
    folder.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    store = Embeddings.from_array(np.ones((3, 4), np.float32))
    store = Embeddings(
        features=store.features,
        table=store.table.set_column(1, "id", pa.array([HOSTILE] * 3)),
        info={"encoder": HOSTILE, "source": HOSTILE},
    )
    return {
        "images": open_images(tmp_path / "images"),
        "embeddings": store,
        "selection": selection(25),
        "checkpoint": Checkpoint(
            path=tmp_path / HOSTILE.replace("/", ""),
            config={"backbone": HOSTILE, "data": {"images": {"name": HOSTILE, "num_images": 7}}},
        ),
        "report": Report(task=HOSTILE, metrics={HOSTILE: 12.5}),
    }


@pytest.mark.parametrize("name", ["images", "embeddings", "selection", "checkpoint", "report"])
def test_names_stay_text(shown, name):
    tags = Tags(shown[name]._repr_html_())
    assert set(tags.found) <= {"div", "strong", "br", "small", "table", "tr", "th", "td"}
    assert "alert(1)" in tags.text


def test_a_long_table_is_cut(shown):
    tags = Tags(shown["selection"]._repr_html_())
    assert tags.found.count("tr") == 1 + 10
    assert "Coreset of 25" in tags.text


def test_an_empty_one_shows_too():
    assert "Coreset of 0" in selection(0)._repr_html_()
    assert "rows: 0" in Embeddings.from_array(np.zeros((0, 4), np.float32))._repr_html_()


def test_counts_of_classes(tmp_path):
    for kind, count in (("a", 2), ("b", 1)):
        (tmp_path / kind).mkdir()
        for i in range(count):
            Image.new("RGB", (8, 8)).save(tmp_path / kind / f"{i}.png")
    text = open_images(tmp_path)._repr_html_()
    assert "<td>a</td><td>2</td>" in text
    assert "unlabeled: 0" in text


def test_pandas_gets_all_columns():
    pandas = pytest.importorskip("pandas")
    frame = selection(3).to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert frame["rank"].tolist() == [0, 1, 2]


def test_pandas_is_asked_for_by_name_where_it_is_missing():
    code = (
        "import sys\n"
        "class Without:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.partition('.')[0] == 'pandas': raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Without())\n"
        "import numpy as np, simcore as sc\n"
        "try: sc.Random().select(np.eye(3), np.eye(3), budget=2).to_pandas()\n"
        "except sc.SimcoreError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "simcore[pandas]" in done.stdout
