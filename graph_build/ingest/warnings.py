"""Finds things that look wrong with the input but are no reason to refuse it; the report and log lines name them."""

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from graph_build.config import NULL_WORDS, InputConfig
from graph_build.decay import EPOCH
from graph_build.ingest.item_tables import HIDING_STATUSES
from graph_build.ingest.refusals import OTHER_DAYS, named_types
from graph_build.ingest.session_warnings import session_doubts
from graph_build.ingest.values import LOOSE_ID

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# Two tables that have a smaller share of their items in common are unlikely to describe the same shop.
MIN_OVERLAP = 0.1
MAX_GAP_DAYS = 7
FIRST_PLAUSIBLE_DAY = 3652  # 1980-01-01
MIN_SHARE_OF_LAST_DAY = 0.01
# A model learns little from fewer events of items.
FEW_EVENTS = 5_000
# If a log holds one day of another time zone, its events span HOURS_OF_A_DAY, but lie on two days. Each of these has at
# least MIN_SHARE_OF_OTHER_DAY of the events.
MIN_SHARE_OF_OTHER_DAY = 0.05
HOURS_OF_A_DAY = (20, 26)
# A value in more than MAX_SHARE_OF_ONE_VALUE of the events may stand for "unknown", if the log has at least MIN_EVENTS
# events and MIN_VALUES values.
MAX_SHARE_OF_ONE_VALUE = 0.2
MIN_EVENTS, MIN_VALUES = 200, 20
# The words that logs write for an unknown user. A warning can name only these user ids, because user ids are hashed.
_PLACEHOLDERS = (
    *NULL_WORDS, "0", "-1", "unknown", "Unknown", "UNKNOWN", "anonymous", "Anonymous", "guest", "none", "undefined",
    "(not set)", "-", "00000000-0000-0000-0000-000000000000",
)  # fmt: skip


def doubts(
    rows: "DataFrame", nodes: "DataFrame", usable: "DataFrame | None", config: InputConfig, *, has_catalogue: bool
) -> list[str]:
    """Return a sentence for each doubt, with the numbers that cause it and what to do.

    Args:
        rows: rows of sessions.
        nodes: the nodes of the whole graph.
        usable: the checked events behind the rows; None for stored days.
        config: the `[input]` section.
        has_catalogue: whether items were given.
    """
    by_day = {day: int(n) for day, n in rows.groupBy("day").agg(F.sum("counted")).collect()}
    checks = [
        _few(by_day),
        _early(by_day),
        _last_day(by_day),
        *session_doubts(rows, config),
        _common_item(nodes),
        _common_session(rows, usable),
        _common_user(rows),
        _unknown_items(nodes) if has_catalogue else None,
    ]
    return [doubt for doubt in checks if doubt is not None]


def unknown_types(unknown: Mapping[str, int]) -> list[str]:
    """Return a sentence with the event types that no rule knows; no sentence if all types are known.

    Args:
        unknown: the commonest unknown types, as they were written → number of rows.
    """
    if not unknown:
        return []
    name = next((name for name in unknown if name), "your_type")
    return [
        f"events of unknown types are refused: {named_types(unknown)}; map them under [input.events.types], or leave "
        f'them out: "{name}" = "ignore"'
    ]


def event_doubts(events: "DataFrame", by_day: Mapping[int, int], zone: str) -> list[str]:
    """Return a sentence for each doubt about the events of an ingest.

    Args:
        events: checked events.
        by_day: `checked_tables.Events.by_day`.
        zone: the time zone of the days.
    """
    checks = [_early(by_day), _cut_in_another_zone(events, by_day, zone)]
    return [doubt for doubt in checks if doubt is not None]


def without_sessions(n: int, total: int, gap: float) -> list[str]:
    """Return a sentence if some events name their session and others do not.

    Args:
        n: the number of events without a session id.
        total: the number of all events.
        gap: `session_gap`, in minutes.
    """
    if not 0 < n < total:
        return []
    return [
        f"{n:,} of {total:,} events have a user_id but no session_id; their sessions are cut at pauses of {gap:g} "
        'minutes, and never joined with those that have ids; if all sessions should be cut so, write session_id = "" '
        "under [input.events.columns]"
    ]


def _cut_in_another_zone(events: "DataFrame", by_day: Mapping[int, int], zone: str) -> str | None:
    """Doubt the time zone of the days if the events span the hours of one day, but lie on two days."""
    total = sum(by_day.values())
    days = sorted(day for day, n in by_day.items() if n >= MIN_SHARE_OF_OTHER_DAY * total)
    if len(days) != 2 or days[1] - days[0] != 1:
        return None
    read = events.where(F.col("reason").isNull() | F.col("reason").isin(*OTHER_DAYS))
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


def ad_doubts(ads: "DataFrame", as_of: dt.datetime, nodes: "DataFrame") -> list[str]:
    """Return a sentence for each doubt about the ads.

    Args:
        ads: the accepted ads.
        as_of: the time of the last event.
        nodes: the nodes of the whole graph.
    """
    time = F.lit(as_of)
    is_active = F.coalesce(F.col("status"), F.lit("active")) == "active"
    begun = F.coalesce(F.col("starts_at") <= time, F.lit(True))
    lasts = F.coalesce(F.col("ends_at") > time, F.lit(True))
    groups = ads.groupBy("status", is_active, begun, lasts).count().collect()
    by_status: dict[str, int] = {}
    for status, active, _, _, n in groups:
        if not active:
            by_status[status] = by_status.get(status, 0) + n
    warnings = [
        f"status {status!r} hides {n:,} ads; only 'active', in upper or lower case, or null shows an ad"
        for status, n in sorted(by_status.items())
        if status not in HIDING_STATUSES
    ]
    total = sum(row[4] for row in groups)
    if total and not any(active and has_begun and goes_on for _, active, has_begun, goes_on, _ in groups):
        early = sum(row[4] for row in groups if row[1] and not row[2])
        ended = sum(row[4] for row in groups if row[1] and row[2] and not row[3])
        hidden = [f"{n:,} have the status {status!r}" for status, n in sorted(by_status.items())]
        why = hidden + [f"{early:,} start later"] * bool(early) + [f"{ended:,} have ended"] * bool(ended)
        warnings.append(f"none of the {total:,} ads is in flight at {as_of.isoformat()}: {', '.join(why)}")
    unknown = _unknown_ads(ads, nodes)
    return warnings if unknown is None else [*warnings, unknown]


def _common_item(nodes: "DataFrame") -> str | None:
    """Doubt an item that has a large share of the events."""
    opened = nodes.where("events > 0")
    n, total, top = opened.agg(F.count(F.lit(1)), F.sum("events"), F.max("events")).collect()[0]
    if not _is_common(n, total, top):
        return None
    item = opened.where(F.col("events") == top).sort("item_id").first()["item_id"]  # type: ignore[index]
    return _common("item_id", repr(item), top, total)


def _common_session(rows: "DataFrame", usable: "DataFrame | None") -> str | None:
    """Doubt a session that has a large share of the events."""
    n, total, top = rows.agg(F.count(F.lit(1)), F.sum("counted"), F.max("counted")).collect()[0]
    if not _is_common(n, total, top):
        return None
    session, has_id = rows.where(F.col("counted") == top).select("session", F.col("id").isNotNull()).first()  # type: ignore[misc]
    if not has_id:
        return None  # `_common_user` doubts the user, who has as many events
    name = None if usable is None else usable.where(F.col("session") == session).select("session_id").first()
    return _common("session_id", "one value" if name is None else repr(name[0]), top, total)


def _common_user(rows: "DataFrame") -> str | None:
    """Doubt a user who has a large share of the events. Users are hashed, so only placeholders can be named."""
    user = F.try_element_at("user", F.lit(1)).alias("user")
    users = rows.groupBy(user).agg(F.sum("counted").alias("n"))
    n, total, top = users.agg(F.count(F.lit(1)), F.sum("n"), F.max(F.struct("n", "user"))).collect()[0]
    if top is None or not _is_common(n, total, top["n"]):
        return None
    known = rows.sparkSession.createDataFrame([(word,) for word in _PLACEHOLDERS], "word string")
    name = known.where(F.xxhash64("word") == top["user"]).first()
    return _common("user_id", "one value" if name is None else repr(name[0]), top["n"], total)


def _is_common(n_values: int, total: int | None, top: int | None) -> bool:
    large = n_values >= MIN_VALUES and total is not None and total >= MIN_EVENTS
    return large and (top or 0) > MAX_SHARE_OF_ONE_VALUE * (total or 0)


def _common(column: str, value: str, n: int, total: int) -> str:
    return (
        f"{value} of {column} holds {n:,} of {total:,} events; does it stand for an unknown {column}? If so, leave "
        "these rows out, or add the value to [input] null_words if the log is CSV"
    )


def _few(by_day: Mapping[int, int]) -> str | None:
    """Doubt that a log is large enough."""
    n = sum(by_day.values())
    if n >= FEW_EVENTS:
        return None
    return (
        f"the log holds {n:,} events of items; a model learns little from fewer than {FEW_EVENTS:,}: give more days, "
        "or take the results as a trial"
    )


def _early(by_day: Mapping[int, int]) -> str | None:
    """Doubt times near 1970: if all times lie there, their unit; if some do, whether 0 stands for unknown times."""
    early = {day: n for day, n in by_day.items() if day < FIRST_PLAUSIBLE_DAY}
    if not early:
        return None
    last = EPOCH + dt.timedelta(days=max(early))
    if len(early) == len(by_day):
        return (
            f"the log ends on {last}: do its times have the unit that their type or [input.events] timestamp_unit says?"
        )
    return (
        f"{sum(early.values()):,} of {sum(by_day.values()):,} events lie near 1970, up to {last}; did the log write 0 "
        "for times that it did not know? Leave these rows out"
    )


def _last_day(by_day: Mapping[int, int]) -> str | None:
    """Doubt the clock if a few events lie long after all others."""
    days = sorted(by_day.items())
    if len(days) < 2:
        return None
    (before, _), (last, events) = days[-2:]
    total = sum(n for _, n in days)
    if last - before <= MAX_GAP_DAYS or events > MIN_SHARE_OF_LAST_DAY * total:
        return None
    ends, resumes = (EPOCH + dt.timedelta(days=day) for day in (before, last))
    return (
        f"{events:,} of {total:,} events are of {resumes}, long after all others, which end on {ends} and so count as "
        f"old; is a clock wrong? `--date {ends}` leaves the late events out"
    )


def _unknown_items(nodes: "DataFrame") -> str | None:
    """Doubt the item ids if events and catalogue have few of them in common."""
    opened, known = F.col("events") > 0, F.col("in_catalogue")
    sums = [F.sum(part.cast("bigint")) for part in (opened, known, opened & known)]
    n_opened, n_known, n_both = nodes.agg(*sums).collect()[0]
    if n_both >= MIN_OVERLAP * min(n_opened, n_known):
        return None
    start = f"only {n_both:,} of {n_opened:,} items with events are among the {n_known:,} of the catalogue"
    only_opened, only_known = nodes.where(opened & ~known), nodes.where(known & ~opened)
    return _different_ids(start, ("events name", only_opened), ("the catalogue", only_known))


def _unknown_ads(ads: "DataFrame", nodes: "DataFrame") -> str | None:
    """Doubt the item ids if ads and graph have few of them in common."""
    advertised = ads.select("item_id").distinct().withColumn("advertised", F.lit(True))
    known = nodes.select("item_id").withColumn("known", F.lit(True))
    every = advertised.join(known, "item_id", "full_outer")
    flags = F.col("advertised").isNotNull(), F.col("known").isNotNull()
    sums = [F.sum(part.cast("bigint")) for part in (*flags, flags[0] & flags[1])]
    n_advertised, n_known, n_both = every.agg(*sums).collect()[0]
    if n_both >= MIN_OVERLAP * min(n_advertised, n_known):
        return None
    start = f"only {n_both:,} of {n_advertised:,} items with ads are among the {n_known:,} that are known"
    strange, others = every.where("known is null"), every.where("advertised is null")
    return _different_ids(start, ("ads name", strange), ("the other tables", others)) + " The other ads are never shown"


def _different_ids(start: str, one: "tuple[str, DataFrame]", other: "tuple[str, DataFrame]") -> str:
    """Return a sentence on the ids that two tables do not share. If two of them are nearly the same, it names these."""
    (name, ids), (other_name, other_ids) = one, other
    pair = _alike(ids, other_ids)
    if pair is not None:
        return (
            f"{start}: {name} {pair[0]!r}, {other_name} {pair[1]!r}; has one of the tables lost zeros of its ids, or "
            "read them as numbers?"
        )
    samples = [
        ", ".join(repr(row[0]) for row in items.select("item_id").sort("item_id").take(3)) for items in (ids, other_ids)
    ]
    return f"{start}: {name} e.g. {samples[0]}, {other_name} {samples[1]}; are these the same ids?"


def _alike(some: "DataFrame", others: "DataFrame") -> tuple[str, str] | None:
    """Return two item_ids, one of each table, that differ only in leading zeros, a final `.0` or case; else None."""

    def loosened(nodes: "DataFrame", name: str) -> "DataFrame":
        loose = F.lower(F.regexp_replace("item_id", *LOOSE_ID))
        return nodes.select(F.col("item_id").alias(name), loose.alias("loose"))

    pair = loosened(some, "some").join(loosened(others, "others"), "loose").sort("some", "others").first()
    return None if pair is None else (pair["some"], pair["others"])
