"""Tab completion: one script for bash and zsh, made from tables of words. What is no word of ours is a file name."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence

SHELLS = ("bash", "zsh")
# zsh runs bash's completions with a module of its own.
ZSH_HEAD = "autoload -U +X compinit bashcompinit && { (( $+functions[compdef] )) || compinit -u; bashcompinit; }\n"
SCRIPT = """\
# Tab completion of simcore; made by `simcore --completion`. Make it anew after an update.
_simcore() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" command="${{COMP_WORDS[1]}}"
    local named="" words="" one
    [[ "$word" == "=" ]] && word=""
    [[ "$before" == "=" ]] && before="${{COMP_WORDS[COMP_CWORD-2]}}"
    COMPREPLY=()
    if (( COMP_CWORD == 1 )); then
        COMPREPLY=( $(compgen -W {commands} -- "$word") )
        return
    fi
    for one in "${{COMP_WORDS[@]:2:$((COMP_CWORD - 2))}}"; do
        case "$command $one" in
            {strategies}) named="$one" ;;
        esac
    done
    if [[ "$word" == -* ]]; then
        case "$command $named" in
{flags}
        esac
    elif [[ "$before" == -* ]]; then
        case "$command $before" in
{values}
        esac
    elif (( COMP_CWORD == 2 )); then
        case "$command" in
{positionals}
        esac
    fi
    COMPREPLY=( $(compgen -W "$words" -- "$word") )
}}
complete -o default -F _simcore simcore
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommandWords:
    """The words of one command.

    Attributes:
        flags: flags by the strategy that is named on the line; those without any stand under "".
        values: what may follow a flag, for the flags whose values are few.
        first: what may stand first, where that is a name.
    """

    name: str
    flags: Mapping[str, Sequence[str]]
    values: Mapping[str, Sequence[str]]
    first: Sequence[str] = ()


def script(shell: str, commands: Sequence[CommandWords], overview: Iterable[str]) -> str:
    """Give the script; ``overview`` are the flags of the program itself."""
    named = [f"{command.name} {name}" for command in commands for name in command.flags if name]
    text = SCRIPT.format(
        commands=_words([*(command.name for command in commands), *overview]),
        strategies="|".join(map(shlex.quote, named)) or "''",
        flags="\n".join(_cases((f"{c.name} {name}", flags) for c in commands for name, flags in c.flags.items())),
        values="\n".join(_cases((f"{c.name} {flag}", words) for c in commands for flag, words in c.values.items())),
        positionals="\n".join(_cases((c.name, c.first) for c in commands if c.first)),
    )
    return (ZSH_HEAD if shell == "zsh" else "") + text


def _cases(pairs: Iterable[tuple[str, Sequence[str]]]) -> Iterator[str]:
    for pattern, words in pairs:
        yield f"            {shlex.quote(pattern)}) words={_words(words)} ;;"


def _words(words: Iterable[str]) -> str:
    return shlex.quote(" ".join(words))
