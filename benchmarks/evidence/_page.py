"""What the sections of the evidence share: intervals, the verdicts that follow from them, and tables."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy import stats

Row = dict[str, Any]
Results = Mapping[str, dict[str, Any]]  # content of result files by their names without the ending


@dataclass(frozen=True)
class Told:
    """What the figures of a section say: an answer of a sentence or two, and the tables that it rests on."""

    answer: str
    tables: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Section:
    """A question that result files answer; ``tell`` gets those whose names fit ``files``, at least one."""

    question: str
    files: str  # pattern of names without the ending
    command: str  # shown where a result file names none
    cannot: str  # what the measurement cannot show
    tell: Callable[[Results], Told]
    in_readme: bool = True


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval (Student's t over seeds); one value alone has none, low = high = nan."""

    mean: float
    low: float
    high: float
    num: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Interval:
        known = [float(value) for value in values]
        mean = statistics.fmean(known)
        if len(known) < 2:
            return cls(mean, math.nan, math.nan, len(known))
        half = float(stats.t.ppf(0.975, len(known) - 1)) * statistics.stdev(known) / math.sqrt(len(known))
        return cls(mean, mean - half, mean + half, len(known))

    @classmethod
    def of_share(cls, percent: float, num: int) -> Interval:
        """Give Wilson's 95 % interval of a share in percent that was counted over ``num``."""
        share, z = percent / 100, 1.959964
        middle = (share + z * z / (2 * num)) / (1 + z * z / num)
        half = z / (1 + z * z / num) * math.sqrt(share * (1 - share) / num + z * z / (4 * num * num))
        return cls(percent, 100 * (middle - half), 100 * (middle + half), num)

    def __str__(self) -> str:
        if math.isnan(self.low):
            return f"{self.mean:.1f}"
        return f"{self.mean:.1f} [{self.low:.1f}, {self.high:.1f}]"

    @property
    def signed(self) -> str:
        """Tell it as a gain."""
        if math.isnan(self.low):
            return f"{self.mean:+.1f}"
        return f"{self.mean:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


def verdict(gain: Interval) -> str:
    """Judge a gain by its interval: above zero, below zero, or neither; one seed judges nothing."""
    if math.isnan(gain.low):
        return "is not judged against"
    if gain.low > 0:
        return "beats"
    return "is worse than" if gain.high < 0 else "does not beat"


def compared(name: str, gain: Interval, base: str) -> str:
    """Say the verdict with the gain that it rests on."""
    return f"{name} {verdict(gain)} {base} ({gain.signed}{', one seed' if math.isnan(gain.low) else ''})"


IN_GROUPS = {
    "beats": "better than",
    "does not beat": "not shown to be better than",
    "is worse than": "worse than",
    "is not judged against": "with one seed not judged against",
}


def grouped(gains: Mapping[str, Interval], base: str) -> str:
    """Say of several what ``compared`` says of one, the verdict of each once."""
    groups: dict[str, list[str]] = {words: [] for words in IN_GROUPS.values()}
    for name, gain in gains.items():
        groups[IN_GROUPS[verdict(gain)]].append(f"{name} ({gain.signed})")
    return "; ".join(f"{words} {base}: {', '.join(told)}" for words, told in groups.items() if told)


def paired(values: Mapping[Any, float], base: Mapping[Any, float]) -> list[float]:
    """Subtract what has the same key (a seed, or target and seed) and is on both sides."""
    return [values[key] - base[key] for key in values if key in base]


def reached(value: float, *, least: float | None = None, most: float | None = None) -> str:
    """Say whether a figure reaches the goal that was set for it beforehand."""
    if least is not None:
        return f"at least {number(least)}: {'met' if value >= least else 'missed'}"
    assert most is not None
    return f"at most {number(most)}: {'met' if value <= most else 'missed'}"


def number(value: Any) -> str:
    """Write a figure with three digits that count, and no more than it has."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{round(value):,}"
    digits = 2 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{min(digits, 6)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Lay out a Markdown table; figures are written by :func:`number`."""
    lines = [[cell(value) for value in row] for row in rows]
    marks = ["---"] * len(head)
    return "\n".join("| " + " | ".join(line) + " |" for line in ([cell(name) for name in head], marks, *lines))


def cell(value: Any) -> str:
    return number(value).replace("|", "\\|").replace("\n", " ")


def listed(parts: Sequence[str]) -> str:
    """Join words as a sentence does."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def span(values: Iterable[float]) -> str:
    """Give the least and the largest: ``1.4 to 3.1``, or the one value that both are."""
    known = sorted(values)
    low, high = number(known[0]), number(known[-1])
    return low if low == high else f"{low} to {high}"


def capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def by(rows: Iterable[Row], *keys: str) -> dict[Any, list[Row]]:
    """Group rows, in order of appearance."""
    groups: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[key] for key in keys) if len(keys) > 1 else row[keys[0]]].append(row)
    return dict(groups)
