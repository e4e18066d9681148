"""Settings read from source equal those of the class itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

from simcore import registry
from simcore.outline import outline
from simcore.settings import fields_of

STRATEGIES = [(package, name) for package in ("selection", "methods", "tasks", "datasets")
              for name in registry.names(package)]  # fmt: skip
HEAD = "import dataclasses\nfrom typing import ClassVar\nfrom simcore.settings import setting\n__all__ = ['Own']\n"
FROZEN = "@dataclasses.dataclass(frozen=True, kw_only=True)\n"


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module of the text given, and forget it afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(HEAD + text)
        return name

    yield write
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.mark.parametrize(("package", "name"), STRATEGIES)
def test_a_likeness_has_the_settings_of_the_class(package, name):
    likeness, strategy = outline(registry.home(package, name)), registry.find(package, name)
    assert fields_of(likeness) == fields_of(strategy)
    assert likeness.__name__ == strategy.__name__
    variables = {key: value for key, value in vars(likeness).items() if not key.startswith("_")}
    assert variables == {key: getattr(strategy, key) for key in variables}


def test_whether_a_task_takes_unlabelled_images_is_inherited():
    takes = {name: outline(registry.home("tasks", name)).takes_unlabelled for name in registry.names("tasks")}
    assert takes == {name: registry.find("tasks", name).takes_unlabelled for name in takes}
    assert (takes["semisup"], takes["knn"]) == (True, False)


def test_all_likenesses_are_made_without_torch():
    code = (
        "import sys\nfrom simcore import registry\nfrom simcore.outline import outline\n"
        f"for package, name in {STRATEGIES!r}: outline(registry.home(package, name))\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_constants_inheritance_and_new_defaults_are_read_and_nothing_is_run(module):
    name = module("read_only", f"""
raise RuntimeError("this module was run")
WAYS = ("up", "down")
{FROZEN}class Base:
    steps: int = setting(3, "steps")
    way: str = setting("up", "way", choices=WAYS)
    fast: ClassVar[bool] = True
{FROZEN}class Own(Base):
    rates: tuple[float, ...] = setting((0.1, 0.2), "rates")
    steps: int | None = setting(None, "fewer")
    def __post_init__(self): ...
""")  # fmt: skip
    likeness = outline(name)
    told = [(field.name, field.kind, field.optional, field.default) for field in fields_of(likeness)]
    assert told == [("steps", int, True, None), ("way", str, False, "up"), ("rates", tuple, False, (0.1, 0.2))]
    assert fields_of(likeness)[1].choices == ("up", "down")
    assert likeness.fast is True
    assert name not in sys.modules


@pytest.mark.parametrize("base", ["make()", "holder.Base"])
def test_a_source_written_in_another_way_is_imported(module, base):
    name = module("another_way", f"""
import types
def make():
    return object
holder = types.SimpleNamespace(Base=object)
{FROZEN}class Own({base}):
    steps: int = setting(3, "steps")
""")  # fmt: skip
    assert outline(name) is sys.modules[name].Own
