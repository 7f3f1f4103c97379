"""Charts as SVG text, drawn in the page's own colours: lines over categories or numbers, and bars."""

import math
from collections.abc import Mapping, Sequence
from html import escape

COLOURS = ("var(--a)", "var(--b)", "var(--c)", "var(--d)", "var(--e)")
Point = tuple[float, float]

WIDTH, HEIGHT = 480, 210
_LEFT, _TOP, _RIGHT, _BOTTOM = 58, 14, 14, 40


def lines(
    series: Mapping[str, Sequence[Point]],
    title: str,
    *,
    ticks: Mapping[float, str] | None = None,
    logarithmic: bool = False,
    zero: bool = False,
    share: bool = False,
) -> str:
    """One line a series over a common x; a series of one point is a dot.

    Args:
        ticks: x → label; by default the first and the last x. logarithmic: both axes. zero: y from 0; share: in per
            cent, and from 0.
    """
    points = [point for line in series.values() for point in line if all(map(math.isfinite, point))]
    if not points:
        return "<p>Nothing to draw yet.</p>"

    def scale(value: float) -> float:
        return math.log10(max(value, 1e-12)) if logarithmic else value

    xs, ys = ([scale(value) for value in axis] for axis in zip(*points, strict=True))
    low, high = (0.0 if share or zero else min(ys)), max(ys)
    if high - low < 1e-12:
        low, high = low - 0.5 * abs(low) - 1e-9, high + 0.5 * abs(high) + 1e-9
    first, last = min(xs), max(xs)
    foot = HEIGHT - _BOTTOM

    def x(value: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * ((scale(value) - first) / (last - first) if last > first else 0.5)

    def y(value: float) -> float:
        return foot - (foot - _TOP) * (scale(value) - low) / (high - low)

    marks = []
    for step in range(4):
        at = low + (high - low) * step / 3
        value = 10**at if logarithmic else at
        place = foot - (foot - _TOP) * step / 3
        marks.append(
            f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{place:.1f}" y2="{place:.1f}" stroke="var(--line)"/>'
            f'<text x="{_LEFT - 8}" y="{place + 4:.1f}" text-anchor="end">{_number(value, share)}</text>'
        )
    if ticks is None:
        ends = sorted({point[0] for point in points})
        ticks = {ends[0]: _number(ends[0], False), ends[-1]: _number(ends[-1], False)}
    labels = sorted(ticks.items())
    for number, (value, label) in enumerate(labels):
        side = "start" if number == 0 and len(labels) > 1 else "end" if number == len(labels) - 1 > 0 else "middle"
        marks.append(f'<text x="{x(value):.1f}" y="{foot + 18}" text-anchor="{side}">{escape(label)}</text>')
    for line, colour in zip(series.values(), COLOURS * len(series), strict=False):
        kept = [point for point in line if all(map(math.isfinite, point))]
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in kept)
        dots = "".join(f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="2.5" fill="{colour}"/>' for a, b in kept)
        marks.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}')
    return _figure(title, marks, list(series))


def bars(values: Mapping[str, float], title: str, *, unit: str = "") -> str:
    """One bar a name, longest as wide as the page."""
    if not values:
        return "<p>Nothing to draw yet.</p>"
    most = max([*values.values(), 1e-12])
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{value:,.4g}{unit}</td>"
        f'<td class="bar"><i style="width:{100 * max(value, 0) / most:.1f}%"></i></td></tr>'
        for name, value in values.items()
    )
    return f'<div class="scroll"><table aria-label="{escape(title)}">{rows}</table></div>'


def _figure(title: str, marks: list[str], names: list[str]) -> str:
    legend = "".join(
        f'<span><i style="background:{colour}"></i>{escape(name)}</span>'
        for name, colour in zip(names, COLOURS * len(names), strict=False)
    )
    drawn = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(marks)}</svg>'
    return f'<figure>{drawn}<figcaption class="legend">{legend}</figcaption></figure>'


def _number(value: float, share: bool) -> str:
    if share:
        return f"{100 * value:.3g}%"
    if abs(value) >= 10_000:
        size = 6 if abs(value) >= 1e6 else 3
        return f"{value / 10**size:.3g}{'M' if size == 6 else 'k'}"
    return f"{value:,.4g}"
