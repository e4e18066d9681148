from __future__ import annotations

import pytest

from simcore.reporting import write_report

pytestmark = pytest.mark.browser

PICKS = "[...document.querySelectorAll('#groups .tile')].map((tile) => Number(tile.dataset.pick))"
GROUPS = "[...document.querySelectorAll('#groups h3')].map((title) => title.firstChild.textContent)"


def choose(browser, **fields):
    """Set fields of the filter form as a person would, and wait for the sheet."""
    for name, value in fields.items():
        browser.run(f"document.querySelector('.sheet-tools').elements['{name}'].value = {value!r}")
    browser.run(
        "document.querySelector('.sheet-tools').dispatchEvent(new Event('input'));"
        "new Promise((done) => setTimeout(done, 250))"
    )


@pytest.fixture
def page(browser, inputs, tmp_path):
    path = write_report(inputs.selection, out=tmp_path / "report.html", **inputs.as_arguments())
    browser.open(path)
    return path


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (380, False)])
def test_opens_without_a_complaint_or_a_request_and_fits_the_width(browser, page, width, dark):
    browser.open(page, width=width, dark=dark)
    assert browser.complaints() == []
    assert browser.run("document.documentElement.scrollWidth") <= width
    light = browser.run("getComputedStyle(document.body).backgroundColor").removeprefix("rgb(").split(",")[0]
    assert (int(light) < 80) == dark


def test_a_hostile_name_stays_text(browser, page, inputs):
    assert browser.run("window.hacked === undefined")
    assert browser.run("document.scripts.length") == 2
    hostile = inputs.selection.ids[0]
    assert "<script>" in hostile
    assert browser.run("document.querySelector('[data-pick=\"0\"]').title") == hostile
    browser.run("document.querySelector('[data-pick=\"0\"]').click()")
    assert browser.run("document.querySelector('#look-name').textContent") == hostile
    assert browser.run("document.querySelectorAll('img[src=x]').length") == 0
    assert browser.complaints() == []


def test_the_sheet_shows_every_pick_once_by_cluster_with_target_images_beside(browser, page, inputs):
    assert sorted(browser.run(PICKS)) == list(range(len(inputs.selection)))
    assert browser.run(GROUPS) == [f"Cluster {c}" for c in range(5)]
    assert browser.run("document.querySelectorAll('#groups .beside').length") == 5
    first = "document.querySelector('[data-pick=\"0\"] .value').textContent"
    assert browser.run(first).startswith(f"{inputs.selection.similarities[0]:.3f}")


def test_filters_keep_what_they_say(browser, page, inputs):
    chosen = inputs.selection
    choose(browser, cluster="3")
    assert browser.run(PICKS) == [p for p in range(len(chosen)) if chosen.clusters[p] == 3]
    choose(browser, cluster="", least="0.8")
    assert sorted(browser.run(PICKS)) == [p for p in range(len(chosen)) if chosen.similarities[p] >= 0.8]
    choose(browser, least="", hit="1")
    assert sorted(browser.run(PICKS)) == [p for p in range(len(chosen)) if chosen.labels[p] < 3]
    choose(browser, hit="", text="SCRIPT")
    assert browser.run(PICKS) == [0]
    choose(browser, text="", **{"class": "birch"})
    assert sorted(browser.run(PICKS)) == [p for p in range(len(chosen)) if chosen.labels[p] == 1]
    choose(browser, round="2")
    assert browser.run("document.querySelector('#count').textContent") == "2 of 40 picks"  # pool rows 7 and 13
    choose(browser, text="nothing is called so")
    assert "No pick passes" in browser.run("document.querySelector('#groups').textContent")
    browser.run("document.querySelector('.sheet-tools').reset(); new Promise((done) => setTimeout(done, 100))")
    assert len(browser.run(PICKS)) == len(chosen)
    assert browser.complaints() == []


def test_sorting_and_grouping(browser, page, inputs):
    choose(browser, group="none", sort="low")
    browser.run("document.querySelector('.rest').click()")
    assert browser.run(PICKS) == list(range(39, -1, -1))
    choose(browser, sort="name", group="round")
    assert browser.run(GROUPS) == [f"Round {r}" for r in range(1, 9)]
    choose(browser, group="class", sort="high")
    titles = browser.run(GROUPS)
    assert set(titles) == {inputs.selection.classes[label] for label in set(inputs.selection.labels.tolist())}
    assert browser.complaints() == []


def test_picks_are_reached_and_walked_with_the_keyboard(browser, page):
    browser.run("document.querySelector('.tile').focus()")
    browser.press("ArrowRight")
    assert browser.run("document.activeElement.dataset.pick") == "5"  # the next of cluster 0
    browser.press("Enter")
    assert browser.run("document.querySelector('#look').open")
    browser.press("ArrowRight")
    assert browser.run("document.querySelector('#look dd').textContent") == "11"
    browser.press("Escape")
    assert not browser.run("document.querySelector('#look').open")


def test_the_map_answers_to_pointer_and_keys(browser, page):
    browser.run("document.querySelector('#map').scrollIntoView()")
    browser.run("new Promise((done) => setTimeout(done, 700))")
    browser.run("document.querySelector('.plane canvas').focus()")
    browser.press("ArrowRight")
    assert "pick 1, similarity 0.950" in browser.run("document.querySelector('#map-said').textContent")
    assert browser.run("document.querySelectorAll('.tip img').length") == 2
    spot = browser.run(
        "(() => { const b = document.querySelector('.tip').getBoundingClientRect(); return [b.x, b.y] })()"
    )
    browser.press("Escape")
    assert browser.run("document.querySelector('.tip').hidden")
    for dx in range(-30, 10, 3):  # the point lies up and left of the tip that it opened
        browser.move(spot[0] + dx, spot[1] + dx)
    assert browser.run("document.querySelector('#map-said').textContent") != ""
    browser.run("document.querySelector('[data-layer=pictures]').click()")
    browser.run("new Promise((done) => setTimeout(done, 200))")
    assert browser.complaints() == []


def test_a_bare_selection_opens_and_says_what_is_missing(browser, many_inputs, tmp_path):
    chosen = many_inputs().selection
    browser.open(write_report(chosen, out=tmp_path / "bare.html"))
    said = browser.run("document.querySelector('main').innerText")
    assert "No map" in said
    assert "names stand in their place" in said
    assert len(browser.run(PICKS)) == len(chosen)
    assert browser.complaints() == []


@pytest.mark.slow
def test_five_thousand_picks_open_in_a_few_seconds(browser, many_inputs, tmp_path):
    inputs = many_inputs(num_picks=5000, num_pool=6000)
    path = write_report(inputs.selection, out=tmp_path / "big.html", **inputs.as_arguments())
    assert path.stat().st_size < 10_000_000
    browser.open(path)
    assert browser.run("performance.timing.domContentLoadedEventEnd - performance.timing.navigationStart") < 5000
    assert browser.complaints() == []
