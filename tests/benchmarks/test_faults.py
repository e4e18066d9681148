"""The benchmark of faults judges rightly: what counts as survived, and what does not."""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FOLDER = Path(__file__).parents[2] / "benchmarks" / "robustness"


@pytest.fixture(scope="module")
def modules():
    sys.path.insert(0, str(FOLDER))
    import _bombs
    import _kills
    import _scene
    import _trial
    import faults

    yield argparse.Namespace(trial=_trial, kills=_kills, bombs=_bombs, scene=_scene, script=faults)
    sys.path.remove(str(FOLDER))


@pytest.fixture
def outcome(modules):
    def made(code, err, growth_mb=0.0):
        return modules.trial.Outcome(code, "", err, 1.0, growth_mb)

    return made


def test_a_named_error_is_survived_and_nothing_else_is(outcome):
    told = "warning: odd\nsimcore: error: a.tar: cut\n"
    assert outcome(1, told).refused("a.tar") is None
    assert "names nothing" in outcome(1, told).refused("b.tar")
    assert "without an error" in outcome(0, "").refused("a.tar")
    assert "exit 70" in outcome(70, "Traceback (most recent call last):\n  …\nKeyError: 'a'\n").refused("a")
    assert "exit -11" in outcome(-11, "").refused("a")
    assert "killed" in outcome(None, "").refused("a")
    assert outcome(1, told, growth_mb=1e4).refused("a.tar") == "10000 MB"
    assert outcome(0, "warning: odd").done() is None
    assert "exit 1" in outcome(1, told).done()


def test_commands_run_apart_and_can_be_killed(modules):
    done = modules.trial.simcore(["--version"])
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("simcore ")
    assert modules.trial.simcore(["inspect", "/nowhere"]).refused("/nowhere") is None
    assert modules.trial.simcore(["--version"], kill_after=0).code is None


def test_content_sees_names_and_bytes(modules, tmp_path):
    content = modules.trial.content
    (tmp_path / "out").mkdir()
    assert content(tmp_path / "out") == ""
    (tmp_path / "out" / "a").write_bytes(b"1")
    first = content(tmp_path / "out")
    (tmp_path / "out" / "a").write_bytes(b"2")
    second = content(tmp_path / "out")
    (tmp_path / "out" / "a").rename(tmp_path / "out" / "b")
    assert len({first, second, content(tmp_path / "out"), content(tmp_path / "out", "c*")}) == 4
    modules.trial.cut(tmp_path / "out" / "b", 0)
    assert (tmp_path / "out" / "b").read_bytes() == b""


class FakeJob:
    """A job whose command does nothing, and that leaves what it is told to."""

    whole_or_absent, name = True, "fake"

    def __init__(self, *contents: str) -> None:
        self.contents = list(contents)

    def command(self, place):
        return ["--version"]

    def content(self, place):
        return self.contents.pop(0) if len(self.contents) > 1 else self.contents[0]


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        (["whole"], None),
        (["", "whole"], None),
        (["half", "whole"], "half a result was left"),
        (["", "", "", "", "other"], "other bytes than undisturbed"),
    ],
)
def test_a_kill_is_survived_by_whole_or_absent_results_alone(modules, tmp_path, contents, said):
    whole = argparse.Namespace(content="whole", seconds=0.0)  # killed at once
    assert modules.kills.kill(FakeJob(*contents), whole, tmp_path, np.random.default_rng(0)) == said


def test_rows_count_what_was_tried_and_keep_the_reasons(modules, tmp_path):
    answers = iter([None, f"lost {tmp_path}/x", None])
    fault = modules.trial.Fault(kind="k", name="n", surviving="s", attempt=lambda place, chance: next(answers))
    row = modules.script.tried(fault, 0, tmp_path, argparse.Namespace(tries=3, seed=0))
    assert (row["tried"], row["survived"], row["reasons"]) == (3, 2, ["lost PLACE/x"])


def test_the_pictures_are_what_they_claim(modules):
    assert Image.open(io.BytesIO(modules.bombs.png(9, 5))).convert("L").size == (9, 5)
    texts = Image.open(io.BytesIO(modules.bombs.png(9, 5, text=1000)))
    texts.load()
    assert len(texts.text["Comment"]) == 1000
    assert Image.open(io.BytesIO(modules.bombs.gif(70, 50))).size == (70, 50)
    assert Image.open(io.BytesIO(modules.scene.jpeg(0))).size == (40, 40)
