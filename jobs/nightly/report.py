"""The morning report: what happened in a night, as one self-contained page."""

import datetime as dt
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from jobs.nightly.findings import gate_title, night_findings
from jobs.nightly.record import NightRecord
from jobs.pipeline.quality_page import QUALITY_TERMS

if TYPE_CHECKING:
    from graph_build.report.charts import Axis, Point, Series

OUTCOMES = {
    "published": "Published",
    "unchanged": "Nothing had changed",
    "held": "Held back after a rollback",
    "refused": "Refused by its gates",
    "failed": "Failed",
}
# The words are those of docs/glossary.md; a test compares them.
NIGHT_TERMS = {
    "gate": "A check that a night must pass before it is published.",
    "fit, refit": "The fit learns from the days before the date and is measured on the date. The refit learns from all "
    "days and is served.",
    "counting peer": "A counting baseline that the fit is compared with.",
    "canary": "A check of the refit that needs no labels: vector norms, and how many neighbours stayed the same.",
    "drift": "How far the neighbours of fixed probe items moved since the published version.",
    "warm start": "Training that begins with the published version's weights.",
    "recall of the index": "The share of the 100 true nearest neighbours that the index finds, on average.",
    **QUALITY_TERMS,
}
SLICES = ("all", "tail", "cold")
MOST_DATES = 5  # the largest number of dates along an axis


def render_night(night: NightRecord, earlier: Sequence[NightRecord]) -> str:
    """Render the report of one night.

    Args:
        night: the night that is reported.
        earlier: the records of earlier nights by date, for the charts over nights.
    """
    from graph_build.report.pages import render_page
    from graph_build.report.terms import GRAPH_TERMS

    columns, quality = _quality_table(night)
    gates = sorted(night.gates, key=lambda gate: (gate.passed, gate.judged))
    return render_page(
        "night.html.j2",
        package="jobs.nightly",
        night=night,
        outcome=OUTCOMES[night.outcome],
        good=night.outcome in ("published", "unchanged") and not night.forced,
        findings=night_findings(night, earlier),
        tile_texts=_tile_texts(night),
        gates=[(gate, gate_title(gate.name)) for gate in gates],
        number=_number,
        charts=_charts(night, [*earlier, night]),
        quality_columns=[f"{'' if part == 'all' else part + ' '}{metric}@{k}" for part, metric, k in columns],
        quality=quality,
        refused={f"{table}: {why}": n for table, reasons in night.quarantined.items() for why, n in reasons.items()},
        all_seconds=sum(stage["seconds"] for stage in night.stages) or 1,
        terms=NIGHT_TERMS | GRAPH_TERMS,
    )


def _tile_texts(night: NightRecord) -> dict[str, str]:
    """Return label → text for the tiles at the top; the text is a dash if the night ended before a value was known."""
    minutes = ((night.ended or night.began) - night.began).total_seconds() / 60
    counts = {name: night.figures.get(f"count:{name}") for name in ("items", "edges", "sessions of the day")}
    isolated = night.figures.get("alone")
    metric = night.hit_rate
    shares = {
        f"{metric}@100": night.value("fit", metric, k=100),
        f"tail {metric}@100": night.value("fit", metric, "tail", 100),
        "index recall": night.index_recall,
    }
    ads = {"ads in flight": f"{night.ads['in_flight']:,}"} if night.ads else {}
    return {
        **{name: "–" if n is None else f"{int(n):,}" for name, n in counts.items()},
        **ads,
        "isolated items": "–" if isolated is None else f"{isolated:.1%}",
        **{name: "–" if share is None else f"{share:.3f}" for name, share in shares.items()},
        "start": "warm" if night.warm else "from scratch",
        "duration": f"{minutes:.1f} min",
    }


def _quality_table(night: NightRecord) -> tuple[list[tuple[str, str, int]], dict[str, list[float | None]]]:
    """Return the columns (slice, metric, k), and model → its values in the order of the columns."""
    cells = {(row["model"], row["slice"], row["metric"], row["k"]): row["value"] for row in night.quality}
    columns = sorted({key[1:] for key in cells}, key=lambda c: (c[1] == "coverage", SLICES.index(c[0]), c[1], c[2]))
    models = dict.fromkeys(row["model"] for row in night.quality)
    return columns, {model: [cells.get((model, *column)) for column in columns] for model in models}


def _charts(night: NightRecord, nights: Sequence[NightRecord]) -> dict[str, str]:
    from graph_build.report.charts import Axis, Series, degree_chart, line_chart, short_percent

    of_sessions = Axis("of the targets", from_zero=True, text=short_percent)
    of_neighbours = Axis("of 20 neighbours", from_zero=True, text=short_percent)
    step = Axis("step")
    loss = [(step or 0.0, loss) for step, loss, _ in night.curve if loss is not None]
    validation = [(step or 0.0, score) for step, _, score in night.curve if score is not None]
    overlap = Series("same neighbours", _by_night(nights, lambda record: record.overlap))
    items = int(night.figures.get("count:items", 0))
    return {
        "events": _events_chart(night),
        "edges": _edges_chart(nights),
        "degrees": degree_chart(night.degrees if items else {}, items),
        "hit_rates": _hit_rates_chart(nights),
        "loss": line_chart([Series("loss", loss)], "Loss by step", step, Axis("loss")),
        "validation": line_chart([Series("validation", validation)], "Validation by step", step, of_sessions),
        "overlap": line_chart([overlap], "Neighbours that stay, by night", _dates([overlap]), of_neighbours),
    }


def _events_chart(night: NightRecord) -> str:
    from graph_build.report.charts import Axis, Series, line_chart

    days = [(float(dt.date.fromisoformat(day).toordinal()), float(n)) for day, n in night.days.items()]
    series = [Series("item events", days, "bar")]
    return line_chart(series, "Events by day", _dates(series), Axis("item events", from_zero=True))


def _edges_chart(nights: Sequence[NightRecord]) -> str:
    from graph_build.report.charts import Axis, Series, line_chart
    from graph_build.report.terms import EDGE_LABELS

    series = [
        Series(label, _by_night(nights, partial(_edges_of, edge_type)), edge_type)
        for edge_type, label in EDGE_LABELS.items()
    ]
    return line_chart(series, "Edges by night", _dates(series), Axis("edges", from_zero=True))


def _edges_of(edge_type: str, night: NightRecord) -> float | None:
    return night.edges.get(edge_type)


def _hit_rates_chart(nights: Sequence[NightRecord]) -> str:
    from graph_build.report.charts import Axis, Series, line_chart, short_percent

    def points(model: str, part: str = "all") -> "list[Point]":
        return _by_night(nights, lambda night: night.value(model, night.hit_rate, part, 100))

    series = [
        Series("published before", points("published"), "bar", dashed=True),
        Series("fit", points("fit"), "accent"),
        Series("fit, tail", points("fit", "tail"), "second"),
        Series("item-kNN", points("item-kNN"), "third"),
    ]
    hits = Axis("of the targets", from_zero=True, text=short_percent)
    return line_chart(series, "HR@100 by night", _dates(series), hits)


def _by_night(nights: Sequence[NightRecord], value: Callable[[NightRecord], float | None]) -> "list[Point]":
    """Return (day number, value) for each night that has a value."""
    values = [(float(night.date.toordinal()), value(night)) for night in nights]
    return [(day, y) for day, y in values if y is not None]


def _dates(series: "Sequence[Series]") -> "Axis":
    """Return an axis of day numbers, of which at most MOST_DATES are written as dates."""
    from graph_build.report.charts import Axis

    days = sorted({day for line in series for day, _ in line.points})
    every = -(-len(days) // MOST_DATES) or 1
    return Axis(ticks={day: _date(day) for day in days[::-1][::every]}, text=_date)


def _date(day: float) -> str:
    return f"{dt.date.fromordinal(int(day)):%d %b}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
