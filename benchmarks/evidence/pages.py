"""What is known, from measurements alone: makes docs/evidence.md and the README's table from the result files.

Every answer, verdict and table is computed from benchmarks/results/*.json, so a new result file changes the page. A
question whose result file is not there has no section; it is listed at the end with the command that would answer it.

    python benchmarks/evidence/pages.py            # write both
    python benchmarks/evidence/pages.py --check    # exit 1 and name what is stale
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from _page import Results, Section, span, table
from _sections import SECTIONS

ROOT = Path(__file__).parents[2]
MACHINE = {"cpu", "num_cores", "memory_gib", "python", "versions"}
BEGIN, END = "<!-- measured figures: made by benchmarks/evidence/pages.py -->", "<!-- end of measured figures -->"
HEAD = """# Evidence

Made by `python benchmarks/evidence/pages.py` from the files in `benchmarks/results`; do not edit it. Each section
answers one question, with what it rests on: the figures, the command that made them, the machine, and what they cannot
show.

Brackets after a mean hold its 95 % interval: Student's t over seeds, or Wilson's for shares of picks; brackets after a
median hold the quartiles. An arm *beats* another where the interval of its gains (same seed, same target) lies above
zero, *is worse* where it lies below, and *does not beat* it (is *not shown to be better*) where it holds zero; a
selector beats another where its interval lies above the other's. Over several targets the gains of all make one
interval, which speaks of these targets alone; of many comparisons at 95 % some hold by chance. One seed gives no
interval and no verdict. Times were taken side by side in one run: compare ratios, not seconds.
"""


def read(folder: Path) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))}


def anchor(section: Section) -> str:
    """Give the question's anchor, as both GitHub and the handbook make it from the heading."""
    return re.sub(r"[^\w-]", "", section.question.lower().replace(" ", "-"))


def fitting(section: Section, results: Results) -> dict[str, Any]:
    return {name: content for name, content in results.items() if fnmatch.fnmatch(name, section.files)}


def told_of(found: Results, key: str) -> list[Any]:
    """What the result files say under ``key``, each once: of the whole file, or of each case."""
    named = []
    for content in found.values():
        cases = content.get("cases")
        parts = list(cases.values()) if isinstance(cases, dict) else []
        named += [part[key] for part in (content, *parts) if key in part]
    return list(dict.fromkeys(named))


def machine_line(machine: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    versions += "".join(f", {name} {machine[name]}" for name in machine.keys() - MACHINE)
    hardware = f"{machine['cpu']}, {machine['num_cores']} cores, {machine['memory_gib']} GiB"
    return f"{hardware}; Python {machine['python']}, {versions}"


def machines(results: Results) -> list[str]:
    """All machines and sets of versions that figures were made with, in order of the files."""
    return list(dict.fromkeys(machine_line(content["machine"]) for content in results.values() if "machine" in content))


def footing(section: Section, found: Results, known: list[str]) -> str:
    """What the figures rest on, and what they cannot show."""
    files = ", ".join(f"[`{name}.json`](../benchmarks/results/{name}.json)" for name in found)
    numbers = sorted({known.index(machine_line(c["machine"])) + 1 for c in found.values() if "machine" in c})
    load = told_of(found, "load_average")
    lines = [
        f"- Made by: {', '.join(f'`{command}`' for command in told_of(found, 'command') or [section.command])}",
        f"- Figures: {files}",
        f"- Machine: {', '.join(f'[{number}](#machines)' for number in numbers) or 'not told'}",
        *([f"- Load average of the machine then: {span(load)}"] if load else []),
        *(f"- Note: {content['note']}" for content in found.values() if "note" in content),
        f"- What it cannot show: {section.cannot}",
    ]
    return "\n".join(lines)


def told(results: Results) -> Iterator[tuple[Section, dict[str, Any], Any]]:
    for section in SECTIONS:
        if found := fitting(section, results):
            yield section, found, section.tell(found)


def page(results: Results) -> str:
    """Lay out docs/evidence.md."""
    known, parts, seen = machines(results), [HEAD], set()
    for section, found, answer in told(results):
        seen |= set(found)
        body = "\n\n".join((answer.answer, *answer.tables, footing(section, found, known)))
        parts.append(f"## {section.question}\n\n{body}\n")
    missing = [section for section in SECTIONS if not fitting(section, results)]
    if missing:
        lines = [[section.question, f"`{section.command}`"] for section in missing]
        parts.append(f"## Not measured yet\n\n{table(['question', 'command'], lines)}\n")
    if further := [name for name in results if name not in seen]:
        lines = [
            [f"[`{name}.json`](../benchmarks/results/{name}.json)", results[name].get("what", "")] for name in further
        ]
        parts.append(f"## Further result files\n\n{table(['file', 'what'], lines)}\n")
    numbered = "\n".join(f"{number}. {line}" for number, line in enumerate(known, 1))
    parts.append(f"## Machines\n\n{numbered}\n")
    return "\n".join(parts)


def readme_table(results: Results) -> str:
    """One line a question that a newcomer has; links lead to the page."""
    lines = [
        [
            section.question,
            re.sub(r"\]\((\w+\.md)", r"](docs/\1", answer.answer),
            f"[figures](docs/evidence.md#{anchor(section)})",
        ]
        for section, _, answer in told(results)
        if section.in_readme
    ]
    return table(["question", "answer", ""], lines)


def with_table(readme: str, made: str) -> str:
    """Put the table between its marks."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"README.md lacks the line '{END if begin else BEGIN}'")
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{after}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page is stale")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository")
    args = parser.parse_args()
    results = read(args.root / "benchmarks" / "results")
    evidence, readme = args.root / "docs" / "evidence.md", args.root / "README.md"
    made = {evidence: page(results), readme: with_table(readme.read_text("utf-8"), readme_table(results))}
    stale = [path for path, text in made.items() if not path.is_file() or path.read_text("utf-8") != text]
    for path in stale:
        place = path.relative_to(args.root)
        if args.check:
            print(f"{place} is stale: run `python benchmarks/evidence/pages.py`", file=sys.stderr)
        else:
            path.write_text(made[path], "utf-8")
            print(f"wrote {place}")
    return int(args.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
