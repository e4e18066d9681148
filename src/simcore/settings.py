"""Settings: the fields of a strategy, said once and read by the command line, recipes and docs alike.

A strategy is a frozen, keyword-only dataclass. A field made with :func:`setting` carries its help text,
so no second list of flags exists anywhere.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from simcore.errors import UsageError

S = TypeVar("S")


def setting(default: Any, help: str, *, choices: Sequence[str] | None = None, metavar: str | None = None) -> Any:
    """Declare one field of a strategy: its default, its help line, and its allowed names if they are few.

    ``metavar`` stands for the value in the help of the command line, where its type does not say enough.
    """
    return dataclasses.field(default=default, metadata={"help": help, "choices": choices, "metavar": metavar})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Field:
    """One setting as the command line and the recipes see it."""

    name: str
    kind: type
    optional: bool
    default: Any
    help: str
    choices: tuple[str, ...] | None
    metavar: str | None

    @property
    def flag(self) -> str:
        """The command-line spelling: ``num_clusters`` is ``--num-clusters``."""
        return "--" + self.name.replace("_", "-")


def fields_of(strategy: type) -> list[Field]:
    """List the settings of a strategy class in the order in which they are declared."""
    hints = typing.get_type_hints(strategy)
    listed = []
    for field in dataclasses.fields(strategy):
        if not field.init:
            continue
        kind, optional = _plain_type(hints[field.name])
        default = None if field.default is dataclasses.MISSING else field.default
        listed.append(
            Field(
                name=field.name,
                kind=kind,
                optional=optional,
                default=default,
                help=field.metadata.get("help", ""),
                choices=tuple(field.metadata["choices"]) if field.metadata.get("choices") else None,
                metavar=field.metadata.get("metavar"),
            )
        )
    return listed


def _plain_type(hint: Any) -> tuple[type, bool]:
    """Reduce an annotation to one plain type and whether None is allowed; tuples are lists of their first type."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        arms = [arm for arm in typing.get_args(hint) if arm is not type(None)]
        return _plain_type(arms[0])[0], len(arms) < len(typing.get_args(hint))
    if typing.get_origin(hint) is typing.Literal:
        return str, False
    origin = typing.get_origin(hint)
    return (origin or hint), False


def build(strategy: type[S], values: Mapping[str, Any], *, where: str = "") -> S:
    """Make a strategy from a mapping of names to values, refusing unknown names with the nearest known one."""
    known = {field.name for field in fields_of(strategy)}
    for name in values:
        if name not in known:
            place = f"{where}: " if where else ""
            raise UsageError(f"{place}{strategy.__name__} has no setting '{name}'{suggest(name, known)}")
    return strategy(**values)


def as_dict(strategy: Any) -> dict[str, Any]:
    """Give a strategy's settings as plain values, ready for JSON or YAML."""
    return {field.name: _plain(getattr(strategy, field.name)) for field in fields_of(type(strategy))}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return as_dict(value)
    return list(value) if isinstance(value, tuple) else value


def suggest(name: str, known: Iterable[str]) -> str:
    """Say the nearest known name, or list them all where none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(names)}"
