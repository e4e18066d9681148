"""How an artifact shows itself in a notebook: a heading, its facts, and perhaps a small table. All text is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

MAX_ROWS = 10


def card(title: str, facts: Mapping[str, Any], rows: Sequence[Sequence[Any]] = (), head: Sequence[str] = ()) -> str:
    """Give HTML of a title, a line of facts, and the first rows of a table with the headings ``head``."""
    told = " · ".join(f"{escape(name)}: {escape(_said(value))}" for name, value in facts.items() if value is not None)
    return f"<div><strong>{escape(title)}</strong><br><small>{told}</small>{_table(rows, head)}</div>"


def _table(rows: Sequence[Sequence[Any]], head: Sequence[str]) -> str:
    if not rows:
        return ""
    lines = [_line(head, "th"), *(_line(map(_said, row), "td") for row in rows[:MAX_ROWS])]
    if len(rows) > MAX_ROWS:
        lines.append(f'<tr><td colspan="{len(head)}">… {len(rows) - MAX_ROWS:,} more</td></tr>')
    return f"<table>{''.join(lines)}</table>"


def _line(cells: Iterable[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)
