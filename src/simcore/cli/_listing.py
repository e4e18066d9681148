"""All commands: their overview, which one is meant, and the words that a shell completes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from simcore import registry
from simcore._version import __version__
from simcore.cli._command import Command, parser_for
from simcore.cli._parser import Parser
from simcore.cli._strategies import NAMED_BY
from simcore.cli.datasets import Datasets, Prepare
from simcore.cli.evaluation import Evaluate, Predict
from simcore.cli.hub import Pull, Push
from simcore.cli.images import Embed, Inspect
from simcore.cli.pretraining import Pretrain
from simcore.cli.recipes import Demo, RecipeText, Run
from simcore.cli.selection import Export, Report, Select
from simcore.completion import SHELLS, CommandWords, script
from simcore.errors import UsageError
from simcore.settings import suggest

COMMANDS: tuple[Command, ...] = (
    Inspect(),
    Embed(),
    Select(),
    Report(),
    Export(),
    Pretrain(),
    Evaluate(),
    Predict(),
    Run(),
    RecipeText(),
    Datasets(),
    Prepare(),
    Push(),
    Pull(),
    Demo(),
)


def chosen(argv: Sequence[str]) -> Command | None:
    """Find the command named first, or print help or version; None when all is said."""
    overview = _overview()
    overview.add_argument("--version", action="version", version=f"simcore {__version__}")
    overview.add_argument("--completion", choices=SHELLS, help="print the script of tab completion")
    if not argv or argv[0].startswith("-"):
        if shell := overview.parse_all(argv).completion:
            print(completion(shell))
        else:
            overview.print_help()
        return None
    by_name = {command.name: command for command in COMMANDS}
    if argv[0] not in by_name:
        raise UsageError(f"no command is called '{argv[0]}'{suggest(argv[0], by_name)}")
    return by_name[argv[0]]


def _overview() -> Parser:
    listing = "\n".join(f"  {command.name:<10} {command.summary}" for command in COMMANDS)
    return Parser(
        prog="simcore",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="simcore COMMAND ...",
        description="Coreset sampling from an open-set for fine-grained self-supervised learning.",
        epilog=f"commands:\n{listing}\n\n`simcore COMMAND --help` tells the rest. First time here: simcore demo",
    )


def completion(shell: str) -> str:
    """Give the script that completes commands, flags, their values and names of strategies in ``shell``."""
    return script(shell, [_words_of(command) for command in COMMANDS], ("--help", "--version", "--completion"))


def _words_of(command: Command) -> CommandWords:
    lines: dict[str, list[str]] = {"": []}
    for package in command.strategies:
        for name in registry.names(package):
            lines[name] = [NAMED_BY[package], name] if NAMED_BY[package] else [name]
    flags: dict[str, list[str]] = {}
    values: dict[str, list[str]] = {}
    for named, words in lines.items():
        actions = parser_for(command, words)._actions
        flags[named] = [flag for action in actions for flag in action.option_strings if flag.startswith("--")]
        values |= {flag: list(map(str, a.choices)) for a in actions if a.choices for flag in a.option_strings}
    names = [name for name in lines if name]
    flag = next((NAMED_BY[package] for package in command.strategies), "")
    values |= {flag: names} if flag else {}
    return CommandWords(name=command.name, flags=flags, values=values, first=() if flag else names)
