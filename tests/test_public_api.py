"""The public interface, held: names and signatures as ``public_api.json`` has them.

A change here is a change for everybody who uses simcore: say it in the changelog, then renew the file with
``python tests/test_public_api.py``.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
from pathlib import Path
from typing import Any

import pytest

import simcore
from simcore import registry

SNAPSHOT = Path(__file__).parent / "public_api.json"
MODULES = (
    "simcore",
    "simcore.artifacts",
    "simcore.selection",
    "simcore.images",
    "simcore.embedding",
    "simcore.backbones",
)


def described() -> dict[str, dict[str, Any]]:
    """Each module's public names: a function's signature, or a class's with those of its public members."""
    return {name: module(importlib.import_module(name)) for name in MODULES}


def module(loaded: Any) -> dict[str, Any]:
    return {name: one(getattr(loaded, name)) for name in sorted(loaded.__all__) if name != "__version__"}


def one(thing: Any) -> Any:
    if inspect.isclass(thing):
        return {"": signature(thing), **{name: member(thing, name) for name in sorted(members(thing))}}
    return signature(thing) if callable(thing) else type(thing).__name__


def members(cls: type) -> list[str]:
    """Public members that simcore itself defines; those of torch and the standard library are theirs."""
    own = [base for base in cls.__mro__ if base.__module__.startswith("simcore")]
    fields = {field.name for field in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else set()
    return list({name for base in own for name in vars(base) if not name.startswith("_")} - fields)


def member(cls: type, name: str) -> str:
    found = inspect.getattr_static(cls, name)
    if isinstance(found, classmethod | staticmethod):
        return signature(getattr(cls, name))
    return signature(found) if inspect.isfunction(found) else "property" if hasattr(found, "__get__") else "attribute"


def signature(thing: Any) -> str:
    try:
        return str(inspect.signature(thing))
    except (TypeError, ValueError):
        return ""


@pytest.mark.parametrize("name", MODULES)
def test_names_and_signatures_are_those_that_were_promised(name):
    promised, found = json.loads(SNAPSHOT.read_text())[name], described()[name]
    assert sorted(found) == sorted(promised), f"public names of {name} changed; see {SNAPSHOT.name}"
    for public in promised:
        assert found[public] == promised[public], f"{name}.{public} changed; see {SNAPSHOT.name}"


def test_everything_public_is_explained():
    for name in simcore.__all__:
        thing = getattr(simcore, name)
        assert name == "__version__" or (inspect.getdoc(thing) or "").strip(), name


def test_the_version_is_a_release():
    assert simcore.__version__ == "0.1.0"


def test_every_registered_strategy_can_be_imported_by_its_class_name():
    """What stands in ``__all__`` first is what ``registry.find`` gives."""
    for package in ("selection", "methods", "tasks", "datasets"):
        for name in registry.names(package):
            loaded = importlib.import_module(f"simcore.{package}.{name}")
            assert getattr(loaded, loaded.__all__[0]) is registry.find(package, name)


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(described(), indent=1, sort_keys=True) + "\n")
