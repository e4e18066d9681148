"""The command line: the only room that reads argv.

A command is a class with three parts (see :mod:`simcore.cli._command`): ``add`` declares its flags, ``run`` does the
work through the pipeline and gives a JSON-ready result, ``show`` prints that result for a person. Modules without an
underscore hold the commands, a family each; :mod:`simcore.cli._listing` names them all. The settings of a strategy
become flags by themselves, and ``SIMCORE_<FLAG>`` gives any flag a default.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from simcore.cli._command import Command, parser_for
from simcore.cli._listing import COMMANDS, chosen, completion
from simcore.cli._parser import SWITCH
from simcore.errors import NO_ROOM, SimcoreError, SimcoreWarning
from simcore.progress import printable, styled, tell
from simcore.ranks import speaks_for_all

__all__ = ["COMMANDS", "Command", "completion", "main", "parser_for"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; give the exit code: 0 done, 1 cannot be done, 2 wrong usage, 130 interrupted."""
    argv = sys.argv[1:] if argv is None else list(argv)
    with _spoken(argv):
        try:
            _run(argv)
        except SimcoreError as error:
            if _is_verbose(argv):
                tell(traceback.format_exc().rstrip())
            return _failed(str(error), error.exit_code)
        except KeyboardInterrupt:
            tell("simcore: interrupted; run the same command again to go on")
            return 128 + signal.SIGINT
        except BrokenPipeError:
            # Whoever read stdout has left, with what they wanted; nothing more can be said there.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            return _failed(f"{error.filename or 'a file'} cannot be written ({error.strerror})", 1)
    return 0


def _failed(why: str, code: int) -> int:
    tell(f"simcore: {styled('error:', 'red')} {printable(why)}")
    return code


def _run(argv: Sequence[str]) -> None:
    command = chosen(argv)
    if command is None:
        return
    parser = parser_for(command, argv[1:])
    taken = parser.take_variables()
    args = parser.parse_all(argv[1:])
    args.variables = taken
    leads = speaks_for_all()  # warnings and errors, which may be of its share alone, are told by every process
    args.quiet = args.quiet or not leads
    began = time.monotonic()
    if args.verbose:
        for variable, text in taken.items():
            tell(f"{variable}={text}")
    result = command.run(args)
    if args.verbose:
        tell(f"{parser.prog}: {time.monotonic() - began:.1f} s")
    if not leads:
        return
    lines = [json.dumps(result, ensure_ascii=False)] if args.json else command.show(result)
    for line in lines:
        print(printable(line, kept="\n\t"))
    sys.stdout.flush()


def _is_verbose(argv: Sequence[str]) -> bool:
    return "--verbose" in argv or "-v" in argv or SWITCH.get(os.environ.get("SIMCORE_VERBOSE", "").lower(), False)


@contextlib.contextmanager
def _spoken(argv: Sequence[str]) -> Iterator[None]:
    """Say warnings in one line each, and let no name that a stream cannot write end the job."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        warnings.simplefilter("default" if _is_verbose(argv) else "ignore")
        warnings.simplefilter("always", SimcoreWarning)
        warnings.showwarning = _tell_warning
        yield


def _tell_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Say a warning in one line; those of other libraries only get here when asked for."""
    whose = "" if issubclass(category, SimcoreWarning) else f"{category.__name__}: "
    tell(f"{styled('warning:', 'yellow')} {whose}{printable(str(message))}")
