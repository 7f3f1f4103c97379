"""The comparison of two versions as one self-contained page."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.candidates.compare import BETTER, TOO_FEW, WORSE
from jobs.nightly.report import NIGHT_TERMS

_TERMS = ("HR@k", "MRR@20", "coverage@20", "cold")
_COLOURS = (("bar", "third"), ("accent", "second"))
"""For each version, the colours of its line and of the point that stands for its served weight."""


def render_comparison(content: Mapping[str, Any]) -> str:
    """Render the comparison of two versions.

    Args:
        content: the result of `jobs.candidates.compare.compare_versions`.
    """
    from graph_build.report.pages import render_page
    from graph_build.report.terms import GRAPH_TERMS

    first, second = content["versions"]
    terms = {name: NIGHT_TERMS[name] for name in _TERMS} | {"tail": GRAPH_TERMS["tail"]}
    return render_page(
        "comparison.html.j2",
        package="jobs.candidates",
        first=first,
        second=second,
        ends=[f"{dt.datetime.fromisoformat(time):%Y-%m-%d %H:%M} UTC" for time in content["as_of"]],
        protocol=content["protocol"],
        headlines=headlines(content["rows"]),
        notes=content["notes"],
        rows=[_cells(row) for row in content["rows"]],
        settings={key: [_text(value) for value in pair] for key, pair in content["settings"].items()},
        frontier=_chart(content) if content.get("frontier") else None,
        terms=terms,
    )


def headlines(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return the most important results, the hits among the first 100 by slice, as (sentence, "good", "bad" or "").

    Args:
        rows: the rows of the comparison.
    """
    lines = []
    for row in rows:
        if row["k"] != 100 or row["difference"] is None:
            continue
        metric = f"{'' if row['slice'] == 'all' else row['slice'] + ' '}{row['metric']}@100"
        values = f"{metric}: {row['a']:.3f} → {row['b']:.3f} ({signed(row['difference'])}"
        limits = "" if row["low"] is None else f", interval {interval(row)}"
        tone = {BETTER: "good", WORSE: "bad"}.get(row["verdict"], "")
        lines.append((f"{values}{limits}): {row['verdict']}", tone))
    return lines


def signed(value: float | None) -> str:
    """Write a difference with its sign and three decimals; a dash for None."""
    return "–" if value is None else f"{value:+.3f}".replace("-", "−")


def interval(row: Mapping[str, Any]) -> str:
    """Write the interval of a row's difference; a dash if it has none."""
    return "–" if row["low"] is None else f"{signed(row['low'])} to {signed(row['high'])}"


def _cells(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "interval": interval(row), "difference": signed(row["difference"]), "tone": _tone(row["verdict"])}


def _tone(verdict: str) -> str:
    return {BETTER: "good", WORSE: "bad", TOO_FEW: "unjudged"}.get(verdict, "")


def _text(value: Any) -> str:
    return "–" if value is None else str(value)


def _chart(content: Mapping[str, Any]) -> str:
    """Draw for each version its hits on the tail (up) and on all targets (across), at each weight of popularity."""
    from graph_build.report.charts import Axis, Series, line_chart, short_percent

    series = []
    for name, dial, (line, point) in zip(content["versions"], content["frontier"], _COLOURS, strict=True):
        points = [(at["all"], at["tail"]) for at in dial if at["all"] is not None and at["tail"] is not None]
        served = [(at["all"], at["tail"]) for at in dial if at["served"] and at["tail"] is not None]
        series += [Series(f"{name}, as served", served, point, dot=5), Series(name, points, line)]
    metric = "recall@100" if content["protocol"] == "basket" else "HR@100"
    x, y = Axis(f"{metric}, all answers", text=short_percent), Axis(f"{metric}, tail answers", text=short_percent)
    return line_chart(series, f"{metric} of tail answers by {metric} of all answers", x, y)
