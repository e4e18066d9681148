"""Habits that a person expects of any command: variables, completion, pipes, colours, examples that hold."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest

from simcore import registry
from simcore.cli import COMMANDS, completion, main, parser_for
from simcore.errors import SimcoreWarning, UsageError
from simcore.progress import Progress, styled
from simcore.settings import fields_of

EXAMPLES = [(command, example) for command in COMMANDS for example in command.examples]
SAMPLE = {int: "7", float: "0.5", bool: "true", str: "word", tuple: "3"}


@pytest.fixture
def stores(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", generator.normal(size=(8, 4)).astype(np.float32))
    np.save(tmp_path / "u.npy", generator.normal(size=(50, 4)).astype(np.float32))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str, **options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **options.pop("env", {})}
    command = [sys.executable, "-m", "simcore", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, **options)


@pytest.mark.parametrize(("command", "example"), EXAMPLES, ids=[example for _, example in EXAMPLES])
def test_an_example_of_the_help_is_right_usage(command, example):
    program, name, *words = shlex.split(example)
    assert (program, name) == ("simcore", command.name)
    parser = parser_for(command, words)
    if "--help" in words:
        with pytest.raises(SystemExit) as stop:
            parser.parse_all(words)
        assert stop.value.code == 0
    else:
        parser.parse_all(words)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_has_examples_and_braces_in_them_are_safe_from_the_shell(command):
    assert len(command.examples) >= 2
    assert all("{" not in word for example in command.examples for word in example.split() if not word.startswith("'"))


def strategies():
    return [(command, package, name) for command in COMMANDS for package in command.strategies
            for name in registry.names(package)]  # fmt: skip


@pytest.mark.parametrize(("command", "package", "name"), strategies(), ids=lambda part: getattr(part, "name", part))
def test_every_setting_of_every_strategy_is_a_flag_that_a_variable_presets(command, package, name, monkeypatch):
    words = {"selection": ["--selector", name], "methods": ["--method", name]}.get(package, [name])
    parser = parser_for(command, words)
    for field in fields_of(registry.find(package, name)):
        action = next((a for a in parser._actions if field.flag in a.option_strings), None)
        assert action is not None, f"{field.flag} is no flag of {command.name}"
        monkeypatch.setenv(f"SIMCORE_{field.name.upper()}", (action.choices or [SAMPLE[field.kind]])[0])
    assert len(parser.take_variables()) >= len(fields_of(registry.find(package, name)))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_flag_of_every_command_can_be_preset(command, monkeypatch):
    parser = parser_for(command, [])
    flags = [a for a in parser._actions if a.option_strings and a.dest != "help"]
    for action in flags:
        sample = "on" if action.nargs == 0 else next(iter(action.choices or ["7"]))
        monkeypatch.setenv(f"SIMCORE_{action.dest.upper()}", sample)
    assert len(parser.take_variables()) == len({action.dest for action in flags})
    assert not any(action.required for action in flags)


def test_a_flag_beats_its_variable_and_a_list_splits_at_blanks(monkeypatch):
    parser = argparse.ArgumentParser()
    evaluate = next(command for command in COMMANDS if command.name == "evaluate")
    monkeypatch.setenv("SIMCORE_K", "1 5")
    monkeypatch.setenv("SIMCORE_ENCODER", "'runs/a b' runs/c")
    words = ["knn", "--train", "x", "--test", "x", "--out", "o"]
    parser = parser_for(evaluate, words)
    parser.take_variables()
    assert parser.parse_all(words).k == [1, 5]
    assert parser.parse_all(words).encoder == ["runs/a b", "runs/c"]
    assert parser.parse_all([*words, "--k", "3"]).k == [3]


@pytest.mark.parametrize(
    ("variable", "text", "told"),
    [
        ("SIMCORE_WHITEN", "maybe", "SIMCORE_WHITEN is 'maybe'"),
        ("SIMCORE_NUM_CLUSTERS", "many", "no value of --num-clusters"),
        ("SIMCORE_STOP_BY", "luck", "must be one of round, centroid"),
    ],
)
def test_a_variable_that_is_no_value_is_wrong_usage(stores, variable, text, told, monkeypatch, capsys):
    monkeypatch.setenv(variable, text)
    assert main(["select", "--target", "x.npy", "--pool", "u.npy", "--out", "s.parquet"]) == 2
    assert told in capsys.readouterr().err


def test_a_mistyped_flag_is_told_before_a_missing_one(capsys):
    assert main(["embed", "photos", "--encodr", "timm:resnet50", "--out", "store"]) == 2
    assert "unknown argument '--encodr'; did you mean '--encoder'" in capsys.readouterr().err


def test_the_version_is_said(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("simcore 0.1.0")


def test_verbose_tells_variables_and_time_and_quiet_tells_nothing(stores, monkeypatch, capsys):
    monkeypatch.setenv("SIMCORE_NUM_CLUSTERS", "3")
    words = ["select", "--target", "x.npy", "--pool", "u.npy", "--budget", "5", "--out", "s.parquet"]
    assert main([*words, "--verbose"]) == 0
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "SIMCORE_NUM_CLUSTERS=3"
    assert told[-1].startswith("simcore select: ")
    assert main([*words, "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_a_traceback_is_shown_only_when_asked_for(stores, capsys):
    words = ["select", "--target", "gone.npy", "--pool", "u.npy", "--out", "s.parquet"]
    assert main(words) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert main([*words, "-v"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_warnings_of_other_libraries_stay_quiet_unless_asked_for(capsys, monkeypatch):
    def noisy(self, args):
        warnings.warn("old habit", DeprecationWarning, stacklevel=1)
        warnings.warn("left out", SimcoreWarning, stacklevel=1)
        return {}

    monkeypatch.setattr(type(COMMANDS[0]), "run", noisy)
    monkeypatch.setattr(type(COMMANDS[0]), "show", lambda self, result: [])
    assert main(["inspect", "x"]) == 0
    assert capsys.readouterr().err == "warning: left out\n"
    assert main(["inspect", "x", "-v"]) == 0
    assert "DeprecationWarning: old habit" in capsys.readouterr().err


class Terminal:
    def __init__(self, live: bool) -> None:
        self.live, self.text = live, ""

    def isatty(self) -> bool:
        return self.live

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


@pytest.mark.parametrize(
    ("live", "variables", "coloured"),
    [(True, {}, True), (True, {"NO_COLOR": "1"}, False), (True, {"TERM": "dumb"}, False), (False, {}, False)],
)
def test_colours_only_where_they_are_wanted(live, variables, coloured, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stderr", Terminal(live))
    assert ("\x1b" in styled("error:", "red")) == coloured


def test_progress_in_a_pipe_is_whole_lines_without_control_characters(monkeypatch):
    stderr = Terminal(live=False)
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr("simcore.progress.LINE_EVERY_SECONDS", 0.0)
    with Progress("embed", total=3) as progress:
        for _ in range(3):
            progress.advance()
    assert stderr.text.endswith("\n")
    assert not {"\r", "\x1b"} & set(stderr.text)


def test_a_live_line_never_wraps(monkeypatch):
    stderr = Terminal(live=True)
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "30")
    with Progress("a label that is rather long for such a window", total=1) as progress:
        progress.advance()
    assert all(len(part) <= 29 for part in stderr.text.replace("\n", "").split("\r\x1b[2K"))


def test_work_goes_on_when_nobody_reads_the_log(stores):
    """``simcore … 2>&1 | head``: the reader of stderr leaves, the coreset is written all the same."""
    code = (
        "import os, sys\nfrom simcore.progress import Progress\nimport simcore.progress as p\n"
        "p.LINE_EVERY_SECONDS = 0\nread, write = os.pipe(); os.close(read); os.dup2(write, 2)\n"
        "with Progress('work', total=2) as progress:\n    progress.advance(); progress.advance()\n"
        "open('done', 'w').close()\nos._exit(0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=stores).returncode == 0
    assert (stores / "done").exists()


def test_a_reader_that_leaves_early_is_no_error():
    pipe = f"{shlex.quote(sys.executable)} -m simcore datasets | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", pipe], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""


def test_help_prints_where_the_terminal_knows_ascii_only():
    done = run("run", "--help", env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr


def test_json_is_alone_on_stdout(stores):
    done = run("select", "--target", "x.npy", "--pool", "u.npy", "--budget", "5", "--out", "s.parquet", "--json")
    assert json.loads(done.stdout)["num_selected"] == 5


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("completion")
    for name in ("bash", "zsh"):
        (folder / name).write_text(completion(name))
    return {name: folder / name for name in ("bash", "zsh")}


@pytest.fixture(params=["bash", "zsh"])
def shell(request):
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return request.param


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("se", {"select"}),
        ("--ver", {"--version"}),
        ("select --selector sim", {"simcore"}),
        ("select --selector = sim", {"simcore"}),
        ("select --num-clus", {"--num-clusters"}),
        ("select --selector density_ratio --num-b", {"--num-background", "--num-background-near"}),
        ("select --selector random --num-b", set()),
        ("select --stop-by c", {"centroid"}),
        ("evaluate lin", {"linear"}),
        ("evaluate semisup --unl", {"--unlabelled", "--unlabelled-weight"}),
        ("evaluate knn --unl", set()),
        ("pretrain --method sims", {"simsiam"}),
        ("pretrain --sched", {"--schedule"}),
        ("pretrain --method mae --mask", {"--mask-ratio"}),
        ("prepare airc", {"aircraft"}),
        ("export coreset.parquet --format w", {"wds"}),
        ("inspect photos", set()),
    ],
)
def test_the_shell_completes(shell, scripts, typed, offered):
    answered = completed(shell, scripts[shell], typed)
    if shell == "zsh":  # leaves it to its next step to drop what does not begin with the word
        answered = [word for word in answered if word.startswith(typed.split()[-1])]
    assert set(answered) == offered


def completed(shell: str, script, typed: str) -> list[str]:
    """What the function of the script answers, called as the shell calls it."""
    ask = f"COMP_WORDS=(simcore {typed}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _simcore"
    if shell == "zsh":  # which has bash's completion functions run in the manner of sh
        ask = f"emulate sh -c {shlex.quote(ask)}"
    code = f"source {shlex.quote(str(script))}; {ask}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    words = [shell, "-f", "-c", code] if shell == "zsh" else [shell, "-c", code]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()


def test_the_script_is_sound_shell(shell, scripts):
    subprocess.run([shell, "-n", scripts[shell]], check=True)


def test_completion_for_another_shell_is_wrong_usage(capsys):
    assert main(["--completion", "fish"]) == 2
    assert "bash" in capsys.readouterr().err


def test_an_unknown_name_of_a_strategy_is_answered_with_the_nearest(capsys):
    with pytest.raises(UsageError, match="did you mean 'linear'"):
        registry.find("tasks", "liner")
    assert main(["evaluate", "liner", "--encoder", "x", "--train", "x", "--test", "x", "--out", "o"]) == 2
    assert "did you mean 'linear'" in capsys.readouterr().err
