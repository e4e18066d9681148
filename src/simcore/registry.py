"""Strategies by name: a module's name is its strategy's name.

``simcore/methods/simclr.py`` is found as ``find("methods", "simclr")``. A strategy module has no leading
underscore in its name and puts its strategy class first in ``__all__``; nothing is registered by hand.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from simcore.errors import UsageError
from simcore.settings import suggest

_ONE_OF = {"selection": "selector", "methods": "method", "tasks": "task", "datasets": "data set"}


def names(package: str) -> list[str]:
    """List the strategies of ``simcore.<package>`` without importing any of them."""
    home = importlib.import_module(f"simcore.{package}")
    return sorted(m.name for m in pkgutil.iter_modules(home.__path__) if not m.name.startswith("_"))


def home(package: str, name: str) -> str:
    """Give the module of the strategy called ``name`` (``-`` and ``_`` are the same) of ``simcore.<package>``."""
    module_name = name.replace("-", "_")
    known = names(package)
    if module_name not in known:
        raise UsageError(f"no {_ONE_OF[package]} is called '{name}'{suggest(module_name, known)}")
    return f"simcore.{package}.{module_name}"


def find(package: str, name: str) -> type[Any]:
    """Import the strategy class called ``name`` of ``simcore.<package>``."""
    module = importlib.import_module(home(package, name))
    strategy: type[Any] = getattr(module, module.__all__[0])
    return strategy


def name_of(strategy: object) -> str:
    """Give the registered name of a strategy (or strategy class): that of the module which defines it."""
    cls = strategy if isinstance(strategy, type) else type(strategy)
    return cls.__module__.rpartition(".")[2]
