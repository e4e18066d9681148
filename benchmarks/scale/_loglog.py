"""Costs against size: fits, and a log-log plot as SVG."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from html import escape

import numpy as np

PANEL_WIDTH, PANEL_HEIGHT, MARGIN, GAP, TOP, FOOT = 360, 300, 62, 70, 46, 118
COLOURS = ("#1b6ca8", "#c8553d", "#2e7d4f", "#7b4ea3")


def power_law(sizes: Sequence[float], costs: Sequence[float]) -> tuple[float, float]:
    """Fit cost = 10^intercept size^slope by least squares of the logarithms: (slope, intercept)."""
    slope, intercept = np.polyfit(np.log10(sizes), np.log10(costs), 1)
    return float(slope), float(intercept)


def fixed_and_each(sizes: Sequence[float], costs: Sequence[float]) -> tuple[float, float]:
    """Fit cost = fixed + each * size, both 0 or more, by least squares of relative errors: (fixed, each)."""
    from scipy.optimize import nnls

    size, cost = np.asarray(sizes, float), np.asarray(costs, float)
    rows = np.stack([1 / cost, size / size.max() / cost], axis=1)
    (fixed, each), _ = nnls(rows, np.ones(len(cost)))
    return float(fixed), float(each / size.max())


@dataclasses.dataclass(frozen=True)
class Series:
    """Measured points of one line, and the fitted (fixed, each) that is drawn through them and on to the limit."""

    name: str
    sizes: Sequence[float]
    costs: Sequence[float]
    fit: tuple[float, float]

    def fitted(self, size: float) -> float:
        return self.fit[0] + self.fit[1] * size


@dataclasses.dataclass(frozen=True)
class Panel:
    """One pair of axes; ``limit`` is the size to which fits are drawn out."""

    title: str
    series: Sequence[Series]
    limit: float

    @property
    def size_decades(self) -> tuple[int, int]:
        smallest = min(min(line.sizes) for line in self.series)
        return math.floor(math.log10(smallest)), math.ceil(math.log10(self.limit))

    @property
    def cost_decades(self) -> tuple[int, int]:
        every = [cost for line in self.series for cost in (*line.costs, line.fitted(self.limit))]
        low, high = math.floor(math.log10(min(every))), math.ceil(math.log10(max(every)))
        return low, max(high, low + 1)

    def place(self, size: float, cost: float) -> tuple[float, float]:
        """Give the position in the panel of a size and a cost, in pixels from its upper left."""
        (left, right), (low, high) = self.size_decades, self.cost_decades
        across = (math.log10(size) - left) / (right - left)
        up = (math.log10(cost) - low) / (high - low)
        return round(across * PANEL_WIDTH, 1), round((1 - up) * PANEL_HEIGHT, 1)


def draw(title: str, panels: Sequence[Panel]) -> str:
    """Draw panels side by side on white; solid lines are fits where there are measurements, broken ones beyond."""
    width = MARGIN + len(panels) * (PANEL_WIDTH + GAP)
    height = TOP + PANEL_HEIGHT + FOOT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'font-family="system-ui, sans-serif" font-size="12" fill="#222">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" rx="6" fill="#fff"/>',
    ]
    for number, panel in enumerate(panels):
        parts.append(f'<g transform="translate({MARGIN + number * (PANEL_WIDTH + GAP)} {TOP})">')
        parts += [*_axes(panel), *_lines(panel), *_legend(panel), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _axes(panel: Panel) -> list[str]:
    (left, right), (low, high) = panel.size_decades, panel.cost_decades
    parts = [f'<text x="0" y="-16" font-size="14" font-weight="600">{escape(panel.title)}</text>']
    for decade in range(left, right + 1):
        x, _ = panel.place(10.0**decade, 10.0**low)
        parts.append(f'<path d="M{x} 0V{PANEL_HEIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{x}" y="{PANEL_HEIGHT + 18}" text-anchor="middle">{_power(decade)}</text>')
    for decade in range(low, high + 1):
        _, y = panel.place(10.0**left, 10.0**decade)
        parts.append(f'<path d="M0 {y}H{PANEL_WIDTH}" stroke="#ddd"/>')
        parts.append(f'<text x="-8" y="{y + 4}" text-anchor="end">{_power(decade)}</text>')
    middle = PANEL_WIDTH / 2
    parts.append(f'<text x="{middle}" y="{PANEL_HEIGHT + 38}" text-anchor="middle">images (N)</text>')
    return parts


def _power(decade: int) -> str:
    return f'10<tspan dy="-5" font-size="9">{decade}</tspan>'


def _lines(panel: Panel) -> list[str]:
    parts = []
    for colour, line in zip(COLOURS, panel.series, strict=False):
        ends = (min(line.sizes), max(line.sizes), panel.limit)
        for start, stop, dash in ((ends[0], ends[1], ""), (ends[1], ends[2], ' stroke-dasharray="5 4"')):
            steps = np.geomspace(start, stop, 24)
            path = " ".join("{},{}".format(*panel.place(size, line.fitted(size))) for size in steps)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"{dash}/>')
        for size, cost in zip(line.sizes, line.costs, strict=True):
            x, y = panel.place(size, cost)
            parts.append(f'<circle cx="{x}" cy="{y}" r="3.5" fill="{colour}"/>')
    return parts


def _legend(panel: Panel) -> list[str]:
    parts = []
    for row, (colour, line) in enumerate(zip(COLOURS, panel.series, strict=False)):
        y = PANEL_HEIGHT + 58 + 17 * row
        parts.append(f'<circle cx="4" cy="{y - 4}" r="4" fill="{colour}"/>')
        parts.append(f'<text x="14" y="{y}">{escape(line.name)}</text>')
    return parts
