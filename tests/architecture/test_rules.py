"""The rules of docs/architecture.md that no linter knows."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "simcore"
FILES = sorted(SOURCE.rglob("*.py"))
STANDARD_LIBRARY = sys.stdlib_module_names


def names(path: Path) -> str:
    return str(path.relative_to(SOURCE))


@pytest.mark.parametrize("forbidden", ["utils", "misc", "common", "helpers"])
def test_no_drawer_for_everything(forbidden):
    assert [names(path) for path in FILES if path.stem == forbidden] == []


def test_no_package_shadows_the_standard_library():
    assert {path.name for path in SOURCE.iterdir() if path.is_dir()} & STANDARD_LIBRARY == set()


@pytest.mark.parametrize(
    "text", [".cuda()", "ArgumentParser", "pickle.load", "allow_pickle=True", "weights_only=False"]
)
def test_words_that_must_not_occur(text):
    found = {names(path) for path in FILES if text in path.read_text("utf-8")}
    assert {name for name in found if "Argument" not in text or not name.startswith("cli/")} == set()


def test_only_the_command_line_reads_argv():
    found = {names(path) for path in FILES if "sys.argv" in path.read_text("utf-8")}
    assert found == {"cli/__init__.py"}


@pytest.mark.parametrize("path", FILES, ids=names)
def test_no_mutable_state_at_module_level(path):
    """Upper-case tables are read only by convention; a bare list, dict or set under another name is state."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List | ast.Dict | ast.Set):
            targets = [target.id for target in node.targets if isinstance(target, ast.Name)]
            assert all(name.strip("_").isupper() or name == "__all__" for name in targets), targets
        assert not isinstance(node, ast.Global)


@pytest.mark.parametrize("path", FILES, ids=names)
def test_functions_fit_a_screen(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, f"{node.name} is {node.end_lineno - node.lineno} lines long"


@pytest.mark.parametrize(
    "module", ["simcore", "simcore.cli", "simcore.artifacts", "simcore.images", "simcore.pipeline"]
)
def test_the_light_rooms_load_no_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
