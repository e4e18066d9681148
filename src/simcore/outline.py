"""The settings of a strategy, read from its source: a strategy may need torch, its flags and its help do not.

:func:`outline` makes a class anew with its settings and plain class variables alone, from the statements that stand
in the source, of the class itself and of those that it inherits from. Where a source is written in another way than
the strategies of this package, the class itself is imported.
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
import functools
import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def outline(module: str) -> type[Any]:
    """Give a likeness of the strategy of ``module``, the class named first in its ``__all__``.

    The likeness is a dataclass of the same name with the same fields in the same order, and with the class variables
    whose values are plain; it has no methods and checks no values.
    """
    try:
        likeness: type[Any] = _meaning(module, _meaning(module, "__all__")[0])
    except Exception:  # whatever is odd about a source: the class itself is always right, only slow to get
        strategy = importlib.import_module(module)
        likeness = getattr(strategy, strategy.__all__[0])
    return likeness


@functools.cache
def _source(module: str) -> dict[str, Any]:
    """Give what a module defines at its top level, by name: classes, constants and imports, as syntax."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(module)
    return dict(_definitions(ast.parse(Path(spec.origin).read_bytes())))


def _definitions(tree: ast.Module) -> Iterator[tuple[str, Any]]:
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((alias.asname or alias.name, (node.module, alias.name)) for alias in node.names)
        elif isinstance(node, ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value


def _meaning(module: str, name: str) -> Any:
    """Give what ``name`` means in ``module``; modules of this package are read, others imported."""
    meant = _source(module)[name]
    if isinstance(meant, tuple):
        home, original = meant
        read = home.startswith("simcore.") and original in _source(home)
        return _meaning(home, original) if read else getattr(importlib.import_module(home), original)
    return _likeness(module, meant) if isinstance(meant, ast.ClassDef) else _value(module, meant)


def _value(module: str, syntax: ast.expr) -> Any:
    """Evaluate an expression of a module: plain values, constants by name, calls such as ``setting(...)``."""
    used = {node.id for node in ast.walk(syntax) if isinstance(node, ast.Name)}
    names = {name: _meaning(module, name) for name in used if not hasattr(builtins, name)}
    return eval(compile(ast.Expression(syntax), module, "eval"), names)


def _likeness(module: str, node: ast.ClassDef) -> type[Any]:
    """Make a class with the annotated statements of another."""
    fields: list[Any] = []
    variables: dict[str, Any] = {"__doc__": ast.get_docstring(node)}
    for statement in node.body:
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        name, value = statement.target.id, statement.value
        if ast.unparse(statement.annotation).startswith("ClassVar"):
            variables |= {name: value.value} if isinstance(value, ast.Constant) else {}
        elif value is None:
            raise LookupError(f"{node.name}.{name} has no default")
        else:
            fields.append((name, _value(module, statement.annotation), _value(module, value)))
    bases = tuple(_value(module, base) for base in node.bases)
    return dataclasses.make_dataclass(node.name, fields, bases=bases, namespace=variables, frozen=True, kw_only=True)
