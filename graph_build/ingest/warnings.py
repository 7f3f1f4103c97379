"""What looks wrong with a log without being wrong enough to refuse: said as warnings and in the report."""

import datetime as dt
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from graph_build.decay import EPOCH

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# Below this share of items in common, events and catalogue hardly speak of the same shop.
LEAST_OVERLAP = 0.1
LONGEST_GAP_DAYS = 7
LEAST_LAST_DAY = 0.01
MOST_TIES = 0.9
MOST_ALONE = 0.99


def doubts(rows: "DataFrame", nodes: "DataFrame", *, has_catalogue: bool) -> list[str]:
    """One sentence a doubt, with what was found and what to do.

    Args:
        rows: rows of sessions.
        nodes: the nodes of the whole graph.
    """
    found = [_last_day(rows), _order(rows), _alone(rows), _strangers(nodes) if has_catalogue else None]
    return [doubt for doubt in found if doubt is not None]


def _last_day(rows: "DataFrame") -> str | None:
    days = sorted(tuple(row) for row in rows.groupBy("day").agg(F.sum("counted")).collect())
    if len(days) < 2:
        return None
    (before, _), (last, events) = days[-2:]
    total = sum(n for _, n in days)
    if last - before <= LONGEST_GAP_DAYS or events > LEAST_LAST_DAY * total:
        return None
    ends, resumes = (EPOCH + dt.timedelta(days=day) for day in (before, last))
    return (
        f"the log ends on {ends}, but {events:,} of {total:,} events are of {resumes} or later and make all others "
        f"old; is a clock wrong? `--date {ends}` leaves them out"
    )


def _order(rows: "DataFrame") -> str | None:
    long = rows.where("browsed and size(time) > 1")
    tied = F.sum((F.element_at("time", 1) == F.element_at("time", -1)).cast("bigint"))
    n, same = long.agg(F.count(F.lit(1)), tied).collect()[0]
    if not n or same <= MOST_TIES * n:
        return None
    return (
        f"in {same:,} of {n:,} sessions all events have the same time, and are taken in the order of the file; "
        "if that is not the order in which they happened, give finer times or a `sequence`"
    )


def _alone(rows: "DataFrame") -> str | None:
    n, alone = rows.agg(F.count(F.lit(1)), F.sum((F.col("counted") < 2).cast("bigint"))).collect()[0]
    if alone <= MOST_ALONE * n:
        return None
    return (
        f"{alone:,} of {n:,} sessions hold at most one item event, so hardly anyone leaves one item for another; "
        "is session_id a new one for every event?"
    )


def _strangers(nodes: "DataFrame") -> str | None:
    opened, known = F.col("events") > 0, F.col("in_catalogue")
    sums = [F.sum(part.cast("bigint")) for part in (opened, known, opened & known)]
    seen, listed, both = nodes.agg(*sums).collect()[0]
    if both >= LEAST_OVERLAP * min(seen, listed):
        return None
    samples = [
        [row[0] for row in nodes.where(part).select("item_id").take(3)] for part in (opened & ~known, known & ~opened)
    ]
    return (
        f"only {both:,} of {seen:,} items with events are among the {listed:,} of the catalogue: events name e.g. "
        f"{', '.join(map(repr, samples[0]))}, the catalogue {', '.join(map(repr, samples[1]))}; are these the same ids?"
    )
