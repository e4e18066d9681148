"""List the benchmarks, or run one by its name.

python -m benchmarks                                  what each measures, and its command
python -m benchmarks selection/speed --cases peel     run one; what follows the name is its own
"""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path

HERE = Path(__file__).parent
HELPERS = ("__main__.py", "jobs.py", "machine.py", "tiny_imagenet.py")


def scripts() -> dict[str, Path]:
    """Every benchmark by its name: its path here, without the ending."""
    found = [path for path in sorted(HERE.rglob("*.py")) if path.name not in HELPERS and not path.name.startswith("_")]
    return {path.relative_to(HERE).with_suffix("").as_posix(): path for path in found}


def question_and_command(path: Path) -> tuple[str, str]:
    """Read the first line of a script's docstring and the command that it names."""
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    commands = [line.strip() for line in text.splitlines() if line.strip().startswith("python benchmarks/")]
    return text.partition("\n")[0], commands[0] if commands else f"python {path.relative_to(HERE.parent)}"


def main(argv: list[str]) -> int:
    """List, or run."""
    known = scripts()
    if not argv:
        for name, path in known.items():
            print(name, *question_and_command(path), sep="\n    ")
        return 0
    if argv[0] not in known:
        print(f"no benchmark is called '{argv[0]}'; `python -m benchmarks` lists them", file=sys.stderr)
        return 2
    sys.argv = [str(known[argv[0]]), *argv[1:]]
    sys.path.insert(0, str(known[argv[0]].parent))
    runpy.run_path(str(known[argv[0]]), run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
