"""From the raw event log to checked events: refused rows named, ids hashed, a row an event still."""

import datetime as dt
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from graph_build.config import EventsInput, EventType
from graph_build.ingest.reader import PLACE

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

ITEM_TYPES = ("view", "click", "add_to_cart", "purchase")
TYPES = ("impression", *ITEM_TYPES, "search")
AFTER_DATE = "after_date"
OTHER_DAY = "other_day"


def event_type(types: dict[str, EventType]) -> "Column":
    """The contract's event type, in lower case, of the log's own; `types` maps those that have another name."""
    own = F.lower(F.col("event_type"))
    named: Column = own
    for name, kind in types.items():
        named = F.when(own == name.lower(), kind).otherwise(named)
    return named


def reason(
    date: dt.date | None, types: dict[str, EventType], now: dt.datetime, days: list[dt.date] | None = None
) -> "Column":
    """Why an event is refused (null: it is not). The first that applies is given.

    Args:
        date: the last day that is used.
        days: the only days that are used.
        now: nothing happens more than a day after it; one wrong clock would make all else old.
    """
    kind = event_type(types)
    late: Column = F.lit(False)
    if date is not None:
        late = F.col("timestamp") >= F.lit(dt.datetime.combine(date + dt.timedelta(days=1), dt.time(), dt.UTC))
    other: Column = F.lit(False)
    if days is not None:
        other = ~F.to_date("timestamp").isin(days)
    return (
        F.when(F.col("session_id").isNull(), "session_missing")
        .when(F.col("timestamp").isNull(), "time_invalid")
        .when(kind.isNull() | ~kind.isin(*TYPES), "type_unknown")
        .when((kind == "search") & F.col("query").isNull(), "query_missing")
        .when((kind != "search") & F.col("item_id").isNull(), "item_missing")
        .when(late, AFTER_DATE)
        .when(other, OTHER_DAY)
        .when(F.col("timestamp") > F.lit(now + dt.timedelta(days=1)), "time_in_future")
    )


def checked(rows: "DataFrame", columns: list[str], config: EventsInput) -> "DataFrame":
    """Events under the names that the rest uses; a row with a `reason` is refused, one with `left_out` unused.

    Args:
        rows: `read` of events, with `reason` and `raw`.
        columns: the contract columns that the input has.
    """
    kind = event_type(config.types)
    day = F.unix_date(F.to_date("timestamp"))
    content = [name for name in columns if name not in ("event_type", "event_id")]
    item_id = F.when(kind != "search", F.col("item_id"))
    return rows.select(
        "reason",
        "raw",
        (F.lit(config.exclude_ad_events) & F.col("ad_id").isNotNull()).alias("left_out"),
        kind.alias("event_type"),
        F.xxhash64("session_id", day).alias("session"),
        "session_id",
        F.xxhash64(F.coalesce("user_id", "session_id")).alias("user"),
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
    """The checked events that the graph is built from."""
    return rows.where("reason is null and not left_out and event_type != 'impression'")


def _hashed(text: "Column") -> "Column":
    return F.when(text.isNotNull(), F.xxhash64(text))


def _number(kind: "Column") -> "Column":
    number: Column = F.lit(None)
    for place, name in enumerate(TYPES[1:]):
        number = F.when(kind == name, place).otherwise(number)
    return number.cast("tinyint")
