"""Line charts as SVG, for all reports.

No plotting library is used, because a report is one page that works offline and without scripts and follows the
reader's light or dark mode, and because it is made on hosts that have only the dependencies of the graph build. Python
computes the positions; the markup is in templates/charts.html.j2.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from graph_build.report.pages import environment
from graph_build.report.statistics import DegreePoint
from graph_build.report.terms import EDGE_LABELS

Point = tuple[float, float]

WIDTH = 440
LEFT, TOP, RIGHT = 54, 20, 16  # margins around the plotted area
FOOT = 194  # distance of the horizontal axis from the top
TARGET_TICKS = 4


def short_number(value: float) -> str:
    """Write a number in few characters: 0.25, 1,500, 12k, 3.4M."""
    if abs(value) >= 10_000:
        power, suffix = (6, "M") if abs(value) >= 1e6 else (3, "k")
        return f"{value / 10**power:.3g}{suffix}"
    return f"{value:,.4g}"


def short_percent(value: float) -> str:
    """Write a share as per cent in few characters: 75%, 0.01%."""
    return f"{100 * value:.3g}%"


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Args:
        name: the name in the legend.
        points: (x, y) in the order of the line; those that are not finite are left out.
        colour: a colour of page.css, such as an edge type.
        dashed: whether the line is dashed, so that a line below it stays visible.
        dot: radius of its dots.
    """

    name: str
    points: Sequence[Point]
    colour: str = "accent"
    dashed: bool = False
    dot: float = 2.5


@dataclass(frozen=True)
class Axis:
    """How one axis of a chart is drawn.

    Args:
        label: what the numbers are; written below the horizontal axis, or above the vertical one.
        ticks: value → text; by default round numbers.
        logarithmic: whether the scale is logarithmic; values must then be positive.
        from_zero: whether the axis begins at 0 instead of the smallest value.
        text: how numbers are written.
    """

    label: str = ""
    ticks: Mapping[float, str] | None = None
    logarithmic: bool = False
    from_zero: bool = False
    text: Callable[[float], str] = field(default=short_number)


def line_chart(series: Sequence[Series], title: str, x: Axis | None = None, y: Axis | None = None) -> Markup:
    """Draw lines over common axes, with a legend. A line of one point is a dot; a line without points is left out.

    Args:
        series: the lines; the first one is drawn on top.
        title: what the picture shows, for screen readers.
        x: the horizontal axis.
        y: the vertical axis.
    """
    x, y = x or Axis(), y or Axis()
    drawn = [(line, [point for point in line.points if all(map(math.isfinite, point))]) for line in series]
    drawn = [(line, points) for line, points in drawn if points]
    if not drawn:
        return Markup("<p>Nothing to draw yet.</p>")
    across = _Scale.fit([a for _, points in drawn for a, _ in points], x, LEFT, WIDTH - RIGHT, widen=False)
    upwards = _Scale.fit([b for _, points in drawn for _, b in points], y, FOOT, TOP, widen=True)
    lines = [
        {
            "series": line,
            "points": [(across.pixel(a), upwards.pixel(b), f"{x.text(a)}: {y.text(b)}") for a, b in points],
        }
        for line, points in drawn
    ]
    frame = {"width": WIDTH, "height": FOOT + (46 if x.label else 26), "foot": FOOT, "top": TOP, "left": LEFT}
    template: Any = environment().get_template("charts.html.j2")
    return template.module.line_chart(
        title=title,
        lines=lines,
        x_label=x.label,
        y_label=y.label,
        x_ticks=across.ticks(x),
        y_ticks=upwards.ticks(y),
        frame=frame | {"right": WIDTH - RIGHT},
    )


def degree_chart(degrees: Mapping[str, Sequence[DegreePoint]], nodes: int) -> Markup:
    """Draw a line per edge type: the share of items that have at least n neighbours, over n.

    Args:
        degrees: edge type → points, as in `GraphStatistics.degrees`.
        nodes: number of items.
    """
    series = [
        Series(label, [(degree, items / nodes) for degree, items in degrees[edge_type]], edge_type)
        for edge_type, label in EDGE_LABELS.items()
        if edge_type in degrees
    ]
    x, y = Axis("neighbours, at least", logarithmic=True), Axis("of all items", logarithmic=True, text=short_percent)
    return line_chart(series, "Share of items by number of neighbours", x, y)


@dataclass(frozen=True)
class _Scale:
    """Maps the values from `low` to `high` onto the pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool
    whole: bool  # every value is a whole number

    @classmethod
    def fit(cls, values: list[float], axis: Axis, start: float, end: float, *, widen: bool) -> "_Scale":
        """Return a scale that shows all values; with `widen`, a linear scale begins and ends at round numbers."""
        whole = all(value == int(value) for value in values)
        low, high = min(values), max(values)
        if axis.logarithmic:
            return cls(low, high, start, end, True, whole)
        low = min(low, 0.0) if axis.from_zero else low
        if widen:
            if low == high:
                low, high = (low, low + 1) if low == 0 else (low - abs(low) / 2, high + abs(high) / 2)
            step = _round_step(low, high, whole)
            low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
        return cls(low, high, start, end, False, whole)

    def pixel(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            value, low, high = math.log10(value), math.log10(low), math.log10(high)
        share = (value - low) / (high - low) if high > low else 0.5
        return round(self.start + (self.end - self.start) * share, 1)

    def ticks(self, axis: Axis) -> list[tuple[float, str]]:
        """Return (pixel, text) of each tick."""
        texts = axis.ticks if axis.ticks is not None else {value: axis.text(value) for value in self._round_values()}
        return [(self.pixel(value), text) for value, text in sorted(texts.items())]

    def _round_values(self) -> list[float]:
        if self.low == self.high:
            return [self.low]
        if self.logarithmic:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            decades = self.high / self.low
            factors = (1,) if decades >= 100 else (1, 2, 5) if decades >= 3 else range(1, 10)
            values = [factor * 10.0**power for power in powers for factor in factors]
            inside = [value for value in values if self.low * (1 - 1e-9) <= value <= self.high * (1 + 1e-9)]
            return inside if len(inside) > 1 else [self.low, self.high]
        step = _round_step(self.low, self.high, self.whole)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


def _round_step(low: float, high: float, whole: bool) -> float:
    """Return 1, 2 or 5 times a power of ten, so that about TARGET_TICKS steps lead from low to high."""
    rough = (high - low) / TARGET_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    return max(1.0, step) if whole else step
