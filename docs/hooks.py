"""Pages made at build time from the program itself, so that they are always true; used by mkdocs.yml.

``python docs/hooks.py FOLDER`` writes the same pages as files.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from simcore import registry
from simcore.cli import COMMANDS, Command, parser_for
from simcore.settings import Field, fields_of

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "selection": ("Selectors", "simcore select --selector NAME"),
    "methods": ("Methods", "simcore pretrain --method NAME"),
    "tasks": ("Tasks", "simcore evaluate NAME"),
    "datasets": ("Data sets", "simcore prepare NAME"),
}
OUTSIDE = re.compile(r"\]\(\.\./(?P<path>(?:benchmarks|src|tests)/[^)#]+)\)")


def commands_page() -> str:
    """Every command with its flags, their defaults and variables, and its examples."""
    head = (
        "# Commands\n\nThe flags of a strategy (`--selector`, `--method`, a task or a data set) are on "
        "[their own page](strategies.md). `SIMCORE_<FLAG>` in the environment gives a flag its default, on every "
        "command that has it: `SIMCORE_NUM_WORKERS=4` for `--num-workers`; lists are split at blanks, switches take "
        "`1` or `0`. What is typed wins.\n\nExit code 0: done; 1: cannot be done, or `--strict` met bad data; 2: wrong "
        "usage; 130: interrupted. Results go to stdout, all else to stderr; colours only to a terminal, never where "
        "`NO_COLOR` is set. `SIMCORE_CACHE` names the folder of listings that are kept (default: `~/.cache/simcore`).\n"
        "`SIMCORE_MAX_BYTES`, `SIMCORE_MAX_PIXELS` and `SIMCORE_MAX_ASPECT` say which images are refused "
        "([the defaults](../own-images.md#what-is-refused)).\n"
        "\nTab completion:\n\n<!-- not run: changes the shell -->\n```bash\n"
        "simcore --completion bash > ~/.local/share/bash-completion/completions/simcore\n"
        "simcore --completion zsh > ~/.simcore.zsh   # and in .zshrc: source ~/.simcore.zsh\n```\n"
    )
    return head + "".join(_command(command) for command in COMMANDS)


def strategies_page() -> str:
    """Every selector, method, task and data set with its settings."""
    parts = [
        "# Selectors, methods, tasks, data sets\n\nA setting is a flag, a recipe key and a field in Python alike.\n"
    ]
    for package, (title, usage) in PACKAGES.items():
        parts.append(f"\n## {title}\n\n`{usage}`\n")
        if package == "methods":
            from simcore.training import PretrainSettings

            parts.append(
                "\n### Every method {#training}\n\nSettings of the training loop.\n\n" + _settings(PretrainSettings)
            )
        parts.extend(_strategy(package, name) for name in registry.names(package))
    return "".join(parts)


def _command(command: Command) -> str:
    parser = parser_for(command, [])
    rows = [_row(action) for action in parser._actions if action.dest != "help"]
    examples = "\n".join(example for example in command.examples)
    table = "| | | default |\n|---|---|---|\n" + "".join(rows)
    return f"\n## simcore {command.name}\n\n{_sentence(command.summary)}\n\n{table}\n```text\n{examples}\n```\n"


def _row(action: argparse.Action) -> str:
    name = ", ".join(f"`{flag}`" for flag in action.option_strings) or f"`{action.metavar or action.dest}`"
    known = action.default
    unsaid = known is None or known is False or known in ([], ()) or not action.option_strings
    shown = "" if unsaid else _plain(known)
    told = (action.help or "").replace("%%", "%")
    if shown:  # the column says it
        told = re.sub(r" \(default: [^)]*\)", "", told)
    must = "required" if action.required and action.option_strings else shown
    if action.choices:
        told += ("; " if told else "") + " or ".join(f"`{choice}`" for choice in action.choices)
    return f"| {name} | {_cell(told)} | {must} |\n"


def _strategy(package: str, name: str) -> str:
    strategy = registry.find(package, name)
    about = inspect.cleandoc(strategy.__doc__ or "").split("\n\n")
    return f"\n### {name}\n\n" + "\n\n".join([*map(_paragraph, about), _settings(strategy)])


def _paragraph(text: str) -> str:
    """Turn a paragraph of a docstring into one of a page; its tables stay as they are drawn."""
    if text.startswith("==="):
        return f"```text\n{text}\n```"
    return re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text.replace("\n", " ").replace("``", "`"))


def _settings(strategy: type[Any]) -> str:
    rows = [_setting(field) for field in fields_of(strategy)]
    return "| setting | | default |\n|---|---|---|\n" + "".join(rows) if rows else "No settings.\n"


def _setting(field: Field) -> str:
    told = field.help + (f": {', '.join(f'`{choice}`' for choice in field.choices)}" if field.choices else "")
    known = "" if field.default is None or field.default == () else _plain(field.default)
    return f"| `{field.flag}` | {_cell(told)} | {known} |\n"


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


PAGES = {"reference/commands.md": commands_page, "reference/strategies.md": strategies_page}


def linked_files() -> Iterator[str]:
    """Files of the repository, outside docs, that a page links to."""
    for page in sorted((ROOT / "docs").rglob("*.md")):
        yield from (match["path"] for match in OUTSIDE.finditer(page.read_text("utf-8")))


def on_files(files: Any, config: Any) -> Any:
    """Add the made pages, and the files outside docs that are linked to."""
    from mkdocs.structure.files import File

    for place, make in PAGES.items():
        files.append(File.generated(config, place, content=make()))
    for path in sorted(set(linked_files())):
        files.append(File.generated(config, f"repository/{path}", abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Point links that lead out of docs to the copies in the site."""
    return OUTSIDE.sub(r"](repository/\g<path>)", markdown)


if __name__ == "__main__":
    for place, make in PAGES.items():
        target = Path(sys.argv[1]) / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(make(), "utf-8")
