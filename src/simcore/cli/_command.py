"""What a command is, and how its parser is made."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from simcore.cli._parser import Parser

Result = dict[str, Any]

VARIABLES_HELP = "SIMCORE_<FLAG> in the environment gives any flag a default: SIMCORE_NUM_WORKERS=4."


class Command:
    """One subcommand."""

    name: ClassVar[str]
    summary: ClassVar[str]
    examples: ClassVar[tuple[str, ...]]
    notes: ClassVar[str] = ""
    strategies: ClassVar[tuple[str, ...]] = ()

    def add(self, parser: Parser, argv: Sequence[str]) -> None:
        """Declare the flags; ``argv`` may be peeked at for a strategy's name."""
        raise NotImplementedError

    def run(self, args: argparse.Namespace) -> Result:
        """Do the work; the result is what ``--json`` prints."""
        raise NotImplementedError

    def show(self, result: Result) -> Iterator[str]:
        """Say the result for a person, line by line."""
        for key, value in result.items():
            if isinstance(value, int | float | str):
                yield (
                    f"{key.replace('_', ' ')}: {value:,}"
                    if isinstance(value, int)
                    else f"{key.replace('_', ' ')}: {value}"
                )


def parser_for(command: Command, argv: Sequence[str]) -> Parser:
    """Make the parser of a command, with the flags of the strategy that ``argv`` names."""
    examples = "\n".join(f"  {example}" for example in command.examples)
    parser = Parser(
        prog=f"simcore {command.name}",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=command.summary,
        epilog=f"{command.notes}\n\nexamples:\n{examples}\n\n{VARIABLES_HELP}".strip(),
    )
    command.add(parser, argv)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else there")
    parser.add_argument("--quiet", "-q", action="store_true", help="no progress on stderr")
    parser.add_argument(
        "--verbose", "-v", action="store_true", help="tell variables used, time taken, every warning and tracebacks"
    )
    return parser
