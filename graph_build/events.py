"""From the raw event log to clean events: refused rows named, duplicates collapsed, sessions cut and numbered.

Everything later is derived from the clean events, which are read and sorted once.
"""

import datetime as dt
from typing import TYPE_CHECKING

from pyspark.sql import Window
from pyspark.sql import functions as F

from graph_build.query import normalise_query
from graph_build.read import PLACE

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, WindowSpec

TYPES = ("impression", "view", "click", "add_to_cart", "purchase", "search")
OPENS = ("view", "click")
ITEM_TYPES = ("view", "click", "add_to_cart", "purchase")
AFTER_DATE = "after_date"


def reason(date: dt.date | None) -> "Column":
    """Why an event is refused (null: it is not). The first that applies is given."""
    kind = F.lower(F.col("event_type"))
    late: Column = F.lit(False)
    if date is not None:
        late = F.col("timestamp") >= F.lit(dt.datetime.combine(date + dt.timedelta(days=1), dt.time(), dt.UTC))
    return (
        F.when(F.col("session_id").isNull(), "session_missing")
        .when(F.col("timestamp").isNull(), "time_invalid")
        .when(kind.isNull() | ~kind.isin(*TYPES), "type_unknown")
        .when((kind == "search") & F.col("query").isNull(), "query_missing")
        .when((kind != "search") & F.col("item_id").isNull(), "item_missing")
        .when(late, AFTER_DATE)
    )


def checked(rows: "DataFrame", columns: list[str], *, exclude_ad_events: bool) -> "DataFrame":
    """Events under the names that the rest uses; a row with a `reason` is refused, one with `left_out` unused.

    Args:
        rows: `read` of events, with `reason` and `raw`.
        columns: the contract columns that the input has.
    """
    kind = F.lower(F.col("event_type"))
    query = F.udf(normalise_query, "string", useArrow=True)("query") if "query" in columns else F.col("query")
    day = F.unix_date(F.to_date("timestamp"))
    content = [name for name in columns if name not in ("event_type", "event_id")]
    return rows.select(
        "reason",
        "raw",
        F.xxhash64("session_id", day).alias("session"),
        F.xxhash64(F.coalesce("user_id", "session_id")).alias("user"),
        day.alias("day"),
        F.col("timestamp").alias("time"),
        kind.alias("type"),
        F.when(kind != "search", F.col("item_id")).alias("item_id"),
        F.col("source_item_id"),
        query.alias("query"),
        "sequence",
        "event_id",
        "request_id",
        F.xxhash64(*content, kind).alias("content"),
        (F.lit(exclude_ad_events) & F.col("ad_id").isNotNull()).alias("left_out"),
        *PLACE,
    )


def in_session() -> "WindowSpec":
    """The order of a session: time, then the log's own sequence, then the place in the input."""
    return Window.partitionBy("session").orderBy("time", "sequence", *PLACE)


def deduplicated(events: "DataFrame", columns: list[str]) -> "DataFrame":
    """Each event once: by event_id where there is one, else only identical neighbours of a session collapse.

    Clicks equal in session, time and item, one with a request_id and one without, are one click: the one with it
    stays, and takes the other's query and source where it has none.
    """
    if "event_id" in columns:
        # Rows without an event_id are groups of one.
        alone = F.when(F.col("event_id").isNull(), F.xxhash64(*PLACE))
        same_id = Window.partitionBy("event_id", alone).orderBy(*PLACE)
        events = events.withColumn("copy", F.row_number().over(same_id)).where("copy = 1").drop("copy")
    repeats = F.col("event_id").isNull() & F.lag("event_id").over(in_session()).isNull()
    repeats &= F.lag("content").over(in_session()).eqNullSafe(F.col("content"))
    events = events.withColumn("repeats", repeats).where(~F.col("repeats")).drop("repeats")
    if "request_id" in columns:
        is_click = F.col("type") == "click"
        same_click = Window.partitionBy("session", "time", "item_id", "type")
        asked = F.col("request_id").isNotNull()
        either = F.max(asked).over(same_click)
        for name in ("query", "source_item_id"):
            other = F.max(F.when(~asked, F.col(name))).over(same_click)
            events = events.withColumn(name, F.when(is_click & asked, F.coalesce(name, other)).otherwise(F.col(name)))
        events = events.withColumn("twin", is_click & ~asked & either).where(~F.col("twin")).drop("twin")
    return events


def item_codes(events: "DataFrame") -> "DataFrame":
    """`item_id`, `item`: an int64 for every item of the log, in the order of the ids, so that ties break by id."""
    ids = events.select("item_id").union(events.select(F.col("source_item_id"))).where("item_id is not null")
    return ids.distinct().orderBy("item_id").select("item_id", F.monotonically_increasing_id().alias("item"))


def clean(events: "DataFrame", codes: "DataFrame", columns: list[str], max_session_items: int) -> "DataFrame":
    """De-duplicated events with what their session says of them.

    Returns, beside session, user, day, time, type, item_id and item (its code), one row an event:
        n: place in the session, from 1.
        source: code of the item page that the event came from, null when not logged.
        search: hash of the search that the event belongs to: its own query, else the session's last search.
        segment: number of searches begun so far; two events of one segment have no search between them.
        counted: an item event that is not the view which a click just opened.
        opened: first view or click of a run of the same item (the session's sequence of items).
        left: the same within the segment, and within the cap (the sequence that strong clicks are read from).
        position: number of items opened so far in the session.
        browsed: the session has a view or click.
        logged: the session logs source items, and only those links count.
    """
    source = codes.select(F.col("item_id").alias("source_item_id"), F.col("item").alias("source"))
    events = deduplicated(events, columns).join(codes, "item_id", "left")
    if "source_item_id" in columns:
        events = events.join(source, "source_item_id", "left")
    else:
        events = events.withColumn("source", F.lit(None).cast("bigint"))

    order = in_session()
    before = order.rowsBetween(Window.unboundedPreceding, -1)
    so_far = order.rowsBetween(Window.unboundedPreceding, 0)
    opens = F.col("type").isin(*OPENS)
    is_search = F.col("type") == "search"
    query = F.xxhash64("query")
    asked = F.when(F.col("query").isNotNull(), query)
    events = events.select(
        "*",
        opens.alias("opens"),
        F.row_number().over(order).alias("n"),
        F.last(F.when(opens, F.struct("type", "item")), ignorenulls=True).over(before).alias("previous"),
        F.coalesce(asked, F.last(F.when(is_search, asked), ignorenulls=True).over(so_far)).alias("search"),
        (is_search | (asked.isNotNull() & ~asked.eqNullSafe(F.last(asked, ignorenulls=True).over(before)))).alias(
            "begins"
        ),
        F.max(F.col("source").isNotNull()).over(Window.partitionBy("session")).alias("logged"),
        F.max(opens).over(Window.partitionBy("session")).alias("browsed"),
    )
    again = F.col("opens") & F.coalesce(F.col("previous.item") == F.col("item"), F.lit(False))
    by_click = again & (F.col("type") == "view") & (F.col("previous.type") == "click")
    events = events.select(
        "*",
        F.sum(F.col("begins").cast("int")).over(so_far).alias("segment"),
        (F.col("type").isin(*ITEM_TYPES) & ~by_click).alias("counted"),
        (F.col("opens") & ~again).alias("opened"),
    )
    segment_before = F.last(F.when(F.col("opens"), F.col("segment")), ignorenulls=True).over(before)
    events = events.select(
        "*",
        F.sum(F.col("opened").cast("int")).over(so_far).alias("position"),
        (F.col("opens") & (F.col("opened") | (segment_before != F.col("segment")))).alias("fresh"),
    )
    return events.select(
        "session",
        "user",
        "day",
        "time",
        "type",
        "item_id",
        "item",
        "n",
        "source",
        "search",
        "segment",
        "counted",
        "opened",
        (F.col("fresh") & (F.col("position") <= max_session_items)).alias("left"),
        "position",
        "browsed",
        "logged",
    )
