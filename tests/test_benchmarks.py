"""The list of benchmarks: each says what it measures and how it is run, and is in their README."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = [
    path
    for path in sorted((ROOT / "benchmarks").rglob("*.py"))
    if path.name not in ("__main__.py", "jobs.py", "machine.py", "tiny_imagenet.py") and path.name[0] != "_"
]


def run(*words: str):
    command = [sys.executable, "-m", "benchmarks", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_list_names_every_benchmark_with_a_question_and_its_own_command():
    done = run()
    assert done.returncode == 0, done.stderr
    for path in SCRIPTS:
        name = path.relative_to(ROOT / "benchmarks").with_suffix("").as_posix()
        assert f"{name}\n" in done.stdout
        assert f"python {path.relative_to(ROOT).as_posix()}" in done.stdout


def test_an_unknown_one_is_wrong_usage():
    done = run("speeed")
    assert done.returncode == 2
    assert "no benchmark is called 'speeed'" in done.stderr


def test_a_benchmark_gets_what_follows_its_name():
    done = run("import_time", "--help")
    assert done.returncode == 0
    assert "--rounds" in done.stdout


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_benchmark_compiles(path):
    compile(path.read_text(), str(path), "exec")
