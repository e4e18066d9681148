"""Argparse with mistakes answered in one line, and variables that give flags their defaults."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from typing import Any, NoReturn

from simcore.errors import UsageError
from simcore.settings import suggest

SWITCH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


class Parser(argparse.ArgumentParser):
    """Argparse that answers a mistake with one line.

    ``asked`` are words that its help has to be asked with, where flags depend on them (a strategy's name).
    """

    asked: tuple[str, ...] = ()

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the whole usage."""
        raise UsageError(f"{message} (see `{' '.join((self.prog, *self.asked))} --help`)")

    def parse_all(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parse ``argv``; an unknown flag is answered, before a missing one, with the nearest known one."""
        flags = [flag for action in self._actions for flag in action.option_strings]
        for word in argv[: argv.index("--")] if "--" in argv else argv:
            name = word.partition("=")[0]
            if name.startswith("--") and name not in flags:
                self._unknown(name, flags)
        args, unknown = self.parse_known_args(argv)
        if unknown:
            self._unknown(unknown[0].partition("=")[0], flags)
        return args

    def _unknown(self, name: str, flags: Sequence[str]) -> NoReturn:
        hint = suggest(name, flags) if name.startswith("--") else ""
        self.error(f"unknown argument '{name}'" + (hint if "did you mean" in hint else ""))

    def take_variables(self) -> dict[str, str]:
        """Let ``SIMCORE_<FLAG>`` give each flag its default; give those that are set."""
        taken = {}
        for action in self._actions:
            variable = "SIMCORE_" + action.dest.upper()
            text = os.environ.get(variable, "")
            if text and action.option_strings and action.dest != "help":
                action.default, action.required = _value_of(variable, text, action), False
                taken[variable] = text
        return taken


def _value_of(variable: str, text: str, action: argparse.Action) -> Any:
    """Read a variable as its flag would be read; lists are split at blanks, as a shell does."""
    if action.nargs == 0:
        if text.lower() not in SWITCH:
            raise UsageError(f"{variable} is '{text}', but must be one of {', '.join(SWITCH)}")
        return SWITCH[text.lower()]
    kind: Any = action.type or str
    words = shlex.split(text) if action.nargs == "+" else [text]
    try:
        values = [kind(word) for word in words]
    except ValueError as error:
        raise UsageError(f"{variable} is '{text}', which is no value of {action.option_strings[-1]}") from error
    if action.choices and not all(value in action.choices for value in values):
        raise UsageError(f"{variable} is '{text}', but must be one of {', '.join(map(str, action.choices))}")
    return values if action.nargs == "+" else values[0]
