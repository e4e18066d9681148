"""The evidence follows from the result files: current as committed, stale after a change, verdicts from intervals."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "evidence" / "pages.py"
MACHINE = {"cpu": "abacus", "num_cores": 1, "memory_gib": 1.0, "python": "3.11", "versions": {"torch": "2"}}


@pytest.fixture(scope="module")
def benchmarks():
    sys.path.insert(0, str(SCRIPT.parent))
    yield
    sys.path.remove(str(SCRIPT.parent))


@pytest.fixture
def evidence(benchmarks):
    import pages

    return pages


@pytest.fixture
def shared(benchmarks):
    import _page

    return _page


def check(*words: str):
    command = [sys.executable, str(SCRIPT), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.fixture
def copy(tmp_path):
    """What the script reads and writes, elsewhere."""
    shutil.copytree(ROOT / "benchmarks" / "results", tmp_path / "benchmarks" / "results")
    (tmp_path / "docs").mkdir()
    for name in ("README.md", "docs/evidence.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_the_committed_pages_are_current():
    done = check("--check")
    assert done.returncode == 0, done.stderr


def test_a_changed_figure_makes_both_pages_stale_and_a_run_mends_them(copy):
    path = copy / "benchmarks" / "results" / "import_time.json"
    content = json.loads(path.read_text())
    content["arms"]["simcore --help"]["seconds"]["median"] = 17.25
    path.write_text(json.dumps(content))
    before = (copy / "README.md").read_text()
    done = check("--check", "--root", str(copy))
    assert done.returncode == 1
    assert "docs/evidence.md is stale" in done.stderr
    assert "README.md is stale" in done.stderr
    assert (copy / "README.md").read_text() == before
    assert check("--root", str(copy)).returncode == 0
    assert check("--check", "--root", str(copy)).returncode == 0
    for name in ("README.md", "docs/evidence.md"):
        assert "`simcore --help` takes 17.2 s (goal of at most 0.3: missed)" in (copy / name).read_text()


def test_a_readme_without_the_marks_is_named(copy):
    (copy / "README.md").write_text("# simcore\n")
    done = check("--check", "--root", str(copy))
    assert done.returncode == 1
    assert "README.md lacks the line '<!-- measured figures" in done.stderr


def test_what_was_not_measured_has_no_section_but_its_command(copy):
    (copy / "benchmarks" / "results" / "listing.json").unlink()
    check("--root", str(copy))
    page = (copy / "docs" / "evidence.md").read_text()
    assert "## How long does it take to open many files and shards?" not in page
    open_questions = page.partition("## Not measured yet")[2]
    assert "`python benchmarks/decoding/listing.py`" in open_questions


def test_a_result_file_that_no_section_reads_is_listed(copy):
    (copy / "benchmarks" / "results" / "odd.json").write_text(json.dumps({"what": "Odd things.", "machine": MACHINE}))
    check("--root", str(copy))
    assert "| Odd things. |" in (copy / "docs" / "evidence.md").read_text().partition("## Further result files")[2]


def test_every_command_named_is_a_script(benchmarks):
    import _sections

    for section in _sections.SECTIONS:
        assert (ROOT / section.command.split()[1]).is_file(), section.command


def test_intervals_are_students_and_wilsons(shared):
    values = [61.2, 63.9, 60.1, 64.4]
    found = shared.Interval.of(values)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    np.testing.assert_allclose((found.mean, found.low, found.high), (np.mean(values), low, high))
    share = shared.Interval.of_share(10.0, 100)
    wilson = stats.binomtest(10, 100).proportion_ci(method="wilson")
    np.testing.assert_allclose((share.low, share.high), (100 * wilson.low, 100 * wilson.high), rtol=1e-6)


@pytest.mark.parametrize(
    ("gains", "word"),
    [
        ([1.0, 1.1, 0.9], "beats"),
        ([-1.0, -1.1, -0.9], "is worse than"),
        ([2.0, 0.1, -0.5], "does not beat"),
        ([0.0, 0.0, 0.0], "does not beat"),
        ([9.0], "is not judged against"),
    ],
)
def test_a_verdict_follows_from_the_interval(shared, gains, word):
    assert shared.verdict(shared.Interval.of(gains)) == word


def test_figures_are_written_with_three_digits(shared):
    written = [
        shared.number(value) for value in (1281167, 1234.5, 137.42, 42.54, 1.4455, 0.10349, 0.00334, 0, 2.0, None)
    ]
    assert written == ["1,281,167", "1,234", "137", "42.5", "1.45", "0.103", "0.00334", "0", "2", ""]
    assert shared.table(["a"], [["50|X|"]]).endswith("| 50\\|X\\| |")


def seeds(values: list[float]) -> list[dict[str, float]]:
    return [{"seed": seed, "top1": value} for seed, value in enumerate(values)]


def accuracies(gain: float) -> list[dict]:
    """Rows of the main table: two targets, four arms, three seeds."""
    arms = {"x": 0.0, "x+random": 2.0, "x+simcore": 2.0 + gain, "x+oracle": 2.0 + 2 * gain}
    return [
        {"target": target, "per_class": 5, "arm": arm, "seed": seed, "method": "simclr"}
        | {"linear": 20 + over + 0.1 * seed * len(arm), "knn": 21 + over, "picked": 50}
        for target in ("pets", "food")
        for arm, over in arms.items()
        for seed in range(3)
    ]


def costs() -> dict[str, dict]:
    """Result files of growth, embedding's peers, selection's peers and faults."""
    fit = {"slope": 0.9, "slope_of_upper_two_decades": 1.01, "at_1e+09": 7200.0, "worst_error": 0.05}
    size = {"stage": "select", "num": 10_000, "engine": "local", "workers": 1, "seconds": 1.5, "cpu_seconds": 1.4}
    growth = {"fits": {"select": {"from": 10_000, "to": 10_000_000, "cpu_seconds": fit, "peak_mb": fit}}}
    growth |= {"rows": [size | {"peak_mb": 500.0, "extra_mb": 20.0}], "estimate_leaves_out": "disks."}
    speed = {
        "jpeg": "64x64",
        "backbone": "resnet10",
        "image_size": 64,
        "images_per_second": {"simcore": 300.0, "x": 200.0},
    }
    speed |= {"times_simcore": {"x": {"wall": [1.4, 1.5, 1.6], "cpu": [1.1, 1.2, 1.3]}}, "difference": {"x": 0.001}}
    figures = {"budget": 5000, "picked": 5000, "classes": 9.0, "covered": 0.9, "cpu_seconds": 1.0, "extra_mb": 10}
    picks = [
        {"target": "pets", "encoder": "e", "selector": name, "side": side, "precision": precision, **figures}
        for name, side, precision in (("simcore", "ours", 5.0), ("top", "ours", 9.0), ("bloom", "peer", 7.0))
    ]
    faults = [
        {"kind": "kill", "fault": "`embed`", "tried": 10, "survived": 9, "surviving": "same", "reasons": ["bytes"]}
    ]
    contents = {"scale": growth, "embedding_peers": {"cases": [speed]}, "selection_peers": {"rows": picks}}
    return {
        name: {"machine": MACHINE, **content} for name, content in (contents | {"faults": {"rows": faults}}).items()
    }


def made(gain: float) -> dict[str, dict]:
    """Result files of the long benchmarks, in their writers' formats, with a chosen gain over the baseline."""
    base, more = seeds([30.0, 31.0, 29.5]), seeds([30 + gain, 31.1 + gain, 29.4 + gain])
    few = {"labels alone": base, "all labels": seeds([60.0, 61.0, 60.5]), "fixmatch": more}
    curve = {"by_num_labels": {"55": {"top1": 20.0, "std": 1.0}, "110": {"top1": 25.0, "std": 1.0}}}
    bought = {"random": curve | {"gain": [0, 0, 0]}, "badge": curve | {"gain": [gain, gain + 0.1, gain]}}
    dense = {"random": [10.0, 11.0, 12.0], "pretrained": [10 + gain, 11.01 + gain, 12.02 + gain]}
    runs = [{"seed": seed, "random": random, "learned": 12 + gain} for seed, random in enumerate((12.0, 12.5, 12.2))]
    method = {"backbone": "resnet10", "runs": runs}
    method["gains"] = [gain, gain - 0.5, gain - 0.2]
    about = {"machine": MACHINE, "settings": {"target": "pets", "num_train": 100, "epochs": 2}}
    return costs() | {
        "main_table": about | {"rows": accuracies(gain)},
        "semisup-pets": about | {"runs": {"semisup": few}},
        "weblysup-pets": about | {"runs": {"0.4": {"plain": base, "dividemix": more}}},
        "active-pets": about | {"table": bought},
        "detection": about | {"figures": {arm: {"mean_ap": values} for arm, values in dense.items()}},
        "segmentation": about | {"figures": {arm: {"miou": values} for arm, values in dense.items()}},
        "training_learning": about | {"methods": {"simclr": method}, "num_images": 1100, "chance": 9.1},
    }


BETTER, WORSE = ("beats", "better than"), ("is worse than", "worse than")  # alone, and in a group of arms


@pytest.mark.parametrize(("gain", "words", "not_words"), [(5.0, BETTER, WORSE), (-5.0, WORSE, BETTER)])
def test_sentences_change_with_the_figures(evidence, gain, words, not_words):
    page = evidence.page(made(gain))

    def sentences(alone: str, of_group: str) -> tuple[str, ...]:
        return (
            f"x+simcore {alone} x+random",
            f"picked by hand, x+oracle {alone} x+random",
            f": {of_group} labels alone: fixmatch ({gain:+.1f} ",
            f": {of_group} plain: dividemix ({gain:+.1f} ",
            f"badge {alone} random",
            f"the pretrained backbone {alone} random weights ({gain:+.1f} ",
        )

    for judged, misjudged in zip(sentences(*words), sentences(*not_words), strict=True):
        assert judged in page
        assert misjudged not in page
    assert "simclr, 5 images of X a class" in page
    assert f"{int(gain > 0)} of 1 methods gain more" in page
    assert f"| `simclr` | resnet10 | 12.2 [11.6, 12.9] | {12 + gain:.1f} [" in page
    assert "1. abacus, 1 cores" in page


def test_main_tables_of_several_lengths_are_told_apart(evidence):
    short, long = (made(gain)["main_table"] for gain in (5.0, -5.0))
    page = evidence.page(
        {
            "main_table": short | {"settings": {"steps": 400}},
            "main_table-long": long | {"settings": {"steps": 3000}},
        }
    )
    assert "simclr, 400 steps, 5 images of X a class: x+simcore beats x+random" in page
    assert "simclr, 3,000 steps, 5 images of X a class: x+simcore is worse than x+random" in page


def test_costs_are_told(evidence):
    page = evidence.page(costs())
    for told in (
        "`select` grows with N^1.01 in processor time and N^1.01 in memory (10,000 to 10,000,000)",
        "x: 1.5 times (1.2 by processor time)",
        "Pets, e, against the field's most precise: our most precise selector beats it at 5,000",
        "the published rule, `simcore`, is worse than it at 5,000.",
        "9 of 10 faults tried on the command line were survived; not always: `embed`.",
        "- `embed`: bytes",
    ):
        assert told in page


def test_gains_are_taken_between_equal_seeds(shared):
    assert shared.paired({0: 5.0, 1: 7.0, 2: 9.0}, {1: 6.0, 0: 3.0}) == [2.0, 1.0]
    assert math.isnan(shared.Interval.of([1.0]).low)
