"""Strategies on the command line: which one is named, its settings as flags, and flags back to a strategy."""

from __future__ import annotations

import argparse
import inspect
import os
import re
from collections.abc import Collection, Sequence
from typing import Any

from simcore import registry
from simcore.cli._parser import Parser
from simcore.outline import outline
from simcore.settings import Field, build, fields_of

# The flag that names a strategy; where there is none, it is the first word.
NAMED_BY = {"selection": "--selector", "methods": "--method", "tasks": "", "datasets": ""}


def peek(argv: Sequence[str], flag: str, default: str) -> str:
    """Read one flag's value ahead of parsing: it decides which further flags exist."""
    ahead = Parser(add_help=False, allow_abbrev=False)
    ahead.add_argument(flag, dest="value", default=os.environ.get("SIMCORE_" + flag[2:].upper(), default))
    value: str = ahead.parse_known_args(argv)[0].value
    return value


def named_in(argv: Sequence[str], package: str) -> str | None:
    """Read ahead which strategy is named: the first word, or wherever a known name stands."""
    known = registry.names(package)
    first = argv[0] if argv and not argv[0].startswith("-") else None
    return first or next((word for word in argv if word.replace("-", "_") in known), None)


def outlined(package: str, name: str) -> type[Any]:
    """Give the settings of a strategy without importing it, so that help and mistakes in argv are told at once."""
    return outline(registry.home(package, name))


def add_settings(
    parser: argparse.ArgumentParser, strategy: type, *, without: Collection[str] = (), title: str | None = None
) -> None:
    """Turn the settings of a strategy class into flags of ``parser``, below what its docstring says of it."""
    group = parser.add_argument_group(title or f"settings of {strategy.__name__}", _about(strategy))
    for field in fields_of(strategy):
        if field.name not in without and field.kind in (bool, int, float, str, tuple):
            _add_flag(group, field)


def _about(strategy: type) -> str:
    """Give a docstring as plain text."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"\1", inspect.cleandoc(strategy.__doc__ or ""))
    return text.replace("``", "")


def _add_flag(group: argparse._ArgumentGroup, field: Field) -> None:
    known: Any = field.default
    shown = (
        ""
        if known is None or known == ()
        else f" (default: {' '.join(map(str, known)) if isinstance(known, tuple) else known})"
    )
    text = (field.help + shown).replace("%", "%%")
    if field.kind is bool:
        group.add_argument(field.flag, action=argparse.BooleanOptionalAction, default=known, help=text)
        return
    extra: dict[str, Any] = {"nargs": "+"} if field.kind is tuple else {}
    kind = type(known[0]) if field.kind is tuple and known else (str if field.kind is tuple else field.kind)
    group.add_argument(
        field.flag, type=kind, default=known, choices=field.choices, help=text, metavar=_metavar(kind, field), **extra
    )


def _metavar(kind: type, field: Field) -> str | None:
    return None if field.choices else field.metavar or {int: "N", float: "X"}.get(kind, "NAME")


def strategy_from(args: argparse.Namespace, strategy: type, *, without: Collection[str] = ()) -> Any:
    """Build a strategy from the parsed flags that carry its settings."""
    names = [field.name for field in fields_of(strategy) if field.name not in without]
    values = {name: getattr(args, name) for name in names if hasattr(args, name)}
    return build(strategy, {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
