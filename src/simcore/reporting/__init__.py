"""Reporting: one self-contained HTML page on a coreset and on what training with it gave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simcore.reporting.page import write_report

__all__ = ["write_report"]


def __getattr__(name: str) -> Any:
    if name == "write_report":
        from simcore.reporting.page import write_report

        return write_report
    raise AttributeError(f"module 'simcore.reporting' has no attribute '{name}'")
