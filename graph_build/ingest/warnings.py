"""Finds what looks wrong with a log without being wrong enough to refuse; the report and the log show the warnings."""

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from graph_build.decay import EPOCH
from graph_build.ingest.refusals import UNUSED

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# With a smaller share of common items, events and catalogue are unlikely to describe the same shop.
MIN_OVERLAP = 0.1
MAX_GAP_DAYS = 7
MIN_SHARE_OF_LAST_DAY = 0.01
MAX_SHARE_OF_TIES = 0.9
MAX_SHARE_OF_SINGLES = 0.99
# A log of one day of another time zone has at least this share of its events on each of two days, within these hours.
MIN_SHARE_OF_OTHER_DAY = 0.05
HOURS_OF_A_DAY = (20, 26)


def doubts(rows: "DataFrame", nodes: "DataFrame", *, has_catalogue: bool) -> list[str]:
    """Return a sentence for each doubt, with the numbers behind it and what to do.

    Args:
        rows: rows of sessions.
        nodes: the nodes of the whole graph.
        has_catalogue: whether items were given.
    """
    checks = [_last_day(rows), _order(rows), _singles(rows), _unknown_items(nodes) if has_catalogue else None]
    return [doubt for doubt in checks if doubt is not None]


def cut_in_another_zone(events: "DataFrame", by_day: Mapping[int, int], zone: str) -> str | None:
    """Doubt the time zone of the days where the events of one day's time lie on two days.

    Args:
        events: checked events.
        by_day: `checked_tables.Events.by_day`.
        zone: the time zone of the days.
    """
    total = sum(by_day.values())
    days = sorted(day for day, n in by_day.items() if n >= MIN_SHARE_OF_OTHER_DAY * total)
    if len(days) != 2 or days[1] - days[0] != 1:
        return None
    read = events.where(F.col("reason").isNull() | F.col("reason").isin(*UNUSED))
    first, last = read.agg(F.percentile_approx("time", [0.01, 0.99])).collect()[0][0]
    hours = (last - first) / 3.6e9
    if not HOURS_OF_A_DAY[0] <= hours <= HOURS_OF_A_DAY[1]:
        return None
    shares = [f"{by_day[day] / total:.0%} of {EPOCH + dt.timedelta(days=day)}" for day in days]
    return (
        f"the events lie within {hours:.0f} hours, but on two days: {' and '.join(shares)}; is the log cut into days "
        f"of another time zone than {zone}? Set [input] day_zone to it, so that no event is missed or counted on a "
        "wrong day"
    )


def _last_day(rows: "DataFrame") -> str | None:
    """Doubt the clock where a few events lie long after all others."""
    days = sorted(tuple(row) for row in rows.groupBy("day").agg(F.sum("counted")).collect())
    if len(days) < 2:
        return None
    (before, _), (last, events) = days[-2:]
    total = sum(n for _, n in days)
    if last - before <= MAX_GAP_DAYS or events > MIN_SHARE_OF_LAST_DAY * total:
        return None
    ends, resumes = (EPOCH + dt.timedelta(days=day) for day in (before, last))
    return (
        f"the log ends on {ends}, but {events:,} of {total:,} events are of {resumes} or later and make all others "
        f"old; is a clock wrong? `--date {ends}` leaves them out"
    )


def _order(rows: "DataFrame") -> str | None:
    """Doubt the order of events where most sessions have one time only."""
    long = rows.where("browsed and size(time) > 1")
    tied = F.sum((F.element_at("time", 1) == F.element_at("time", -1)).cast("bigint"))
    n, same = long.agg(F.count(F.lit(1)), tied).collect()[0]
    if not n or same <= MAX_SHARE_OF_TIES * n:
        return None
    return (
        f"in {same:,} of {n:,} sessions all events have the same time, and are taken in the order of the file; "
        "if they happened in another order, give finer times or a `sequence`"
    )


def _singles(rows: "DataFrame") -> str | None:
    """Doubt the session ids where nearly every session has one event."""
    n, singles = rows.agg(F.count(F.lit(1)), F.sum((F.col("counted") < 2).cast("bigint"))).collect()[0]
    if singles <= MAX_SHARE_OF_SINGLES * n:
        return None
    return (
        f"{singles:,} of {n:,} sessions hold at most one item event, so hardly anyone leaves one item for another; "
        "is session_id a new one for every event?"
    )


def _unknown_items(nodes: "DataFrame") -> str | None:
    """Doubt the item ids where events and catalogue share few."""
    opened, known = F.col("events") > 0, F.col("in_catalogue")
    sums = [F.sum(part.cast("bigint")) for part in (opened, known, opened & known)]
    n_opened, n_known, n_both = nodes.agg(*sums).collect()[0]
    if n_both >= MIN_OVERLAP * min(n_opened, n_known):
        return None
    samples = [
        [row[0] for row in nodes.where(part).select("item_id").take(3)] for part in (opened & ~known, known & ~opened)
    ]
    return (
        f"only {n_both:,} of {n_opened:,} items with events are among the {n_known:,} of the catalogue: events name "
        f"e.g. {', '.join(map(repr, samples[0]))}, the catalogue {', '.join(map(repr, samples[1]))}; are these the "
        "same ids?"
    )
