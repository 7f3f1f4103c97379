"""Checks events in Spark: each row gets the reason for which it is refused, if any, and hashes of its ids."""

import datetime as dt
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from graph_build.config import EventsInput, EventType, Ignored
from graph_build.day_zone import UTC
from graph_build.ingest.contract import PLACE, SESSION_TYPES
from graph_build.ingest.refusals import ANY_OTHER, event_faults, type_names

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


def event_type(types: dict[str, EventType | Ignored]) -> "Column":
    """Return the contract's event type: null if the log's type is unknown, `ignore` if it means nothing.

    `types` maps the log's own names to the contract's; upper and lower case do not matter.
    """
    known = type_names(types)
    names = F.create_map(*(F.lit(text) for pair in known.items() for text in pair))
    kind = names[F.lower(F.col("event_type"))]
    if (other := known.get(ANY_OTHER)) is None:
        return kind
    return F.coalesce(kind, F.when(F.col("event_type").isNotNull(), F.lit(other)))


def day_of(zone: str) -> "Column":
    """Return the day number of an event's `timestamp` in a time zone. Spark itself computes in UTC."""
    time = F.col("timestamp")
    return F.unix_date(F.to_date(time if zone == UTC else F.from_utc_timestamp(time, zone)))


def reason(
    date: dt.date | None,
    types: dict[str, EventType | Ignored],
    now: dt.datetime,
    days: list[dt.date] | None = None,
    zone: str = UTC,
) -> "Column":
    """Return why an event is refused; null if it is not.

    Args:
        date: the last day that is used.
        types: the log's own names of event types.
        now: events more than a day after this time are refused.
        days: the only days that are used.
        zone: the time zone of the days.
    """
    computed = {
        "event_type": event_type(types),
        "time": F.unix_micros("timestamp"),
        "day": day_of(zone),
    }
    faults = event_faults(
        lambda name: computed.get(name, F.col(name)), lambda column: column.isNull(), now, date, days, zone
    )
    return F.coalesce(*(F.when(condition, F.lit(name)) for name, condition in faults.items()))


def checked(rows: "DataFrame", columns: list[str], config: EventsInput, zone: str = UTC) -> "DataFrame":
    """Return events under the names used from here on. Events with a `reason`, or that are `left_out`, do not count.

    Args:
        rows: the result of `spark_reader.read` for events, with `reason` and `raw`.
        columns: the contract columns that the input has.
        config: the `[input.events]` section.
        zone: the time zone of the days.
    """
    kind = event_type(config.types)
    day = day_of(zone)
    content = [name for name in columns if name not in ("event_type", "event_id")]
    item_id = F.when(kind != "search", F.col("item_id"))
    user = F.xxhash64(F.coalesce("user_id", "session_id"))
    # Without a session_id, all events of a user on a day are one session until `sessions.pauses` cuts it. The text
    # "user" keeps its hash apart from the hashes of session ids.
    of_user = F.xxhash64(F.lit("user"), user, day)
    return rows.select(
        "reason",
        "raw",
        (F.lit(config.exclude_ad_events) & F.col("ad_id").isNotNull()).alias("left_out"),
        kind.alias("event_type"),
        F.when(F.col("session_id").isNull(), of_user).otherwise(F.xxhash64("session_id", day)).alias("session"),
        "session_id",
        _hashed(F.col("session_id")).alias("id"),
        user.alias("user"),
        day.alias("day"),
        F.unix_micros("timestamp").alias("time"),
        _number(kind).alias("type"),
        item_id.alias("item_id"),
        _hashed(item_id).alias("item"),
        F.col("source_item_id").alias("source_id"),
        _hashed(F.col("source_item_id")).alias("source"),
        "query",
        "sequence",
        F.nullif(F.upper(F.trim("country")), F.lit("")).alias("country"),
        _hashed(F.col("event_id")).alias("event"),
        F.col("request_id").isNotNull().alias("asked"),
        _hashed(F.col("request_id")).alias("request"),
        F.xxhash64(*content, kind).alias("content"),
        *PLACE,
    )


def usable(rows: "DataFrame") -> "DataFrame":
    """Return the checked events that the graph is built from."""
    return rows.where("reason is null and not left_out and event_type != 'impression'")


def _hashed(text: "Column") -> "Column":
    return F.when(text.isNotNull(), F.xxhash64(text))


def _number(kind: "Column") -> "Column":
    numbers = F.create_map(
        *(literal for rank, name in enumerate(SESSION_TYPES) for literal in (F.lit(name), F.lit(rank)))
    )
    return numbers[kind].cast("tinyint")
