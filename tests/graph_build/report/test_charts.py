"""Charts draw all points within the axes, label round numbers, and give each edge type one colour."""

import re
from typing import Any

import pytest

from graph_build.report.charts import FOOT, LEFT, RIGHT, TOP, WIDTH, Axis, Series, degree_chart, line_chart
from tests.html_page import Page


def dots(chart: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', chart)]


def labels(chart: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", chart)


def test_points_lie_inside_the_axes_and_larger_values_are_higher() -> None:
    chart = line_chart([Series("a", [(1, 2.0), (3, 8.0)]), Series("b", [(2, float("nan")), (2, 4.0)])], "a & b")
    points = dots(chart)
    assert len(points) == 3, "a point that is not finite is left out"
    assert all(LEFT <= x <= WIDTH - RIGHT and TOP <= y <= FOOT for x, y in points)
    heights = {name: float(y) for y, name in re.findall(r'cy="([\d.]+)"[^>]*><title>(\w, \d): ', chart)}
    assert heights["a, 3"] < heights["b, 2"] < heights["a, 1"]
    assert 'aria-label="a &amp; b"' in chart


@pytest.mark.parametrize("points", [[(1, 5.0)], [(1, 0.0), (2, 0.0)], [(1, -3.0), (2, -3.0)]])
def test_a_flat_line_and_a_single_point_are_drawn(points: list[tuple[float, float]]) -> None:
    chart = line_chart([Series("a", points)], "flat")
    assert len(dots(chart)) == len(points)
    assert "nan" not in chart


@pytest.mark.parametrize(
    ("values", "axis", "ticks"),
    [
        ([0, 2476], Axis(from_zero=True), ["0", "1,000", "2,000", "3,000"]),
        ([4000, 18_500], Axis(from_zero=True), ["0", "5,000", "10k", "15k", "20k"]),
        ([5.17, 5.48], Axis(), ["5.1", "5.2", "5.3", "5.4", "5.5"]),
        ([1, 2], Axis(), ["1", "2"]),
        ([1, 1200], Axis(logarithmic=True), ["1", "10", "100", "1,000"]),
        ([1, 7], Axis(logarithmic=True), ["1", "2", "5"]),
    ],
)
def test_axes_are_labelled_with_round_numbers(values: list[float], axis: Axis, ticks: list[str]) -> None:
    chart = line_chart([Series("a", [(0, values[0]), (1, values[1])])], "title", Axis(ticks={}), axis)
    assert labels(chart) == ticks


def test_both_axes_say_what_their_numbers_are() -> None:
    chart = line_chart([Series("a", [(0, 1), (1, 2)])], "title", Axis("step", ticks={}), Axis("loss"))
    assert labels(chart) == ["1", "2", "step", "loss"]


def test_an_empty_chart_says_that_there_is_nothing_to_draw() -> None:
    assert "Nothing to draw yet." in line_chart([], "none")
    assert "Nothing to draw yet." in degree_chart({}, 0)


def test_degrees_are_shares_of_all_items_in_the_colours_of_their_types() -> None:
    chart = degree_chart({"co_search": [(1, 10), (4, 5)], "strong_click": [(1, 100), (10, 1)]}, 100)
    assert "strong click, 10: 1%" in chart
    assert "co-search, 4: 5%" in chart
    assert "Swing" not in chart
    assert re.findall(r'<polyline [^>]*stroke="([^"]+)"', chart) == ["var(--co_search)", "var(--strong_click)"]


def test_names_are_escaped() -> None:
    series: list[Any] = [Series("<script>", [(1, 1.0)])]
    chart = line_chart(series, '"><script>', Axis("<script>"))
    assert "<script" not in chart
    assert "<script>" in Page(chart).text
