"""Session lists for the trainer and the hold-out, and which sessions the hold-out takes."""

from typing import TYPE_CHECKING

from pyspark.sql import Window
from pyspark.sql import functions as F

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

COLUMNS = ("session", "start", "kind", "items", "times")


def browse_sessions(events: "DataFrame", max_items: int) -> "DataFrame":
    """Clean events → sessions with a view or click: the items opened, in order, equal neighbours collapsed."""
    opened = F.col("opened") & (F.col("position") <= max_items)
    visit = F.when(opened, F.struct("n", "item_id", "time"))
    return (
        events.groupBy("session")
        .agg(F.min("time").alias("start"), F.sort_array(F.collect_list(visit)).alias("visits"))
        .where("size(visits) > 0")
        .select(
            "session",
            "start",
            F.lit("browse").alias("kind"),
            F.col("visits.item_id").alias("items"),
            F.col("visits.time").alias("times"),
        )
    )


def basket_sessions(baskets: "DataFrame") -> "DataFrame":
    """`transitions.baskets` → sessions with only add_to_cart and purchase events: the distinct items."""
    return baskets.select(
        "session",
        "start",
        F.lit("basket").alias("kind"),
        F.col("basket.item_id").alias("items"),
        F.col("basket.time").alias("times"),
    )


def held_out(events: "DataFrame", share: float) -> "DataFrame":
    """(session): the last sessions by start time that hold at least `share` of the item events; never all sessions.

    Sessions are never split; those that start at the same time are ordered by their hash. Only two small histograms
    reach the driver, events by day and by second of one day.
    """
    per_session = events.groupBy("session").agg(
        F.min("time").alias("start"), F.sum(F.col("counted").cast("bigint")).alias("events")
    )
    per_session = per_session.where("events > 0").withColumn("second", F.expr("unix_seconds(start)")).persist()
    day = F.expr("second div 86400")
    by_day = sorted(((r[0], r[1]) for r in per_session.groupBy(day).agg(F.sum("events")).collect()), reverse=True)
    wanted = share * sum(count for _, count in by_day)
    last_day, later = _reach(by_day, wanted, 0)
    in_day = per_session.where(day == last_day)
    by_second = sorted(((r[0], r[1]) for r in in_day.groupBy("second").agg(F.sum("events")).collect()), reverse=True)
    last_second, later = _reach(by_second, wanted, later)
    # Of the sessions that start in this second, the later ones first, until the share is reached.
    order = Window.partitionBy("second").orderBy(F.desc("start"), F.desc("session"))
    before = F.coalesce(F.sum("events").over(order.rowsBetween(Window.unboundedPreceding, -1)), F.lit(0))
    at_edge = per_session.where(F.col("second") == last_second).withColumn("before", before)
    first = per_session.agg(F.min(F.struct("start", "session"))["session"]).collect()[0][0]
    return (
        at_edge.where(F.col("before") + later < wanted)
        .select("session")
        .union(per_session.where(F.col("second") > last_second).select("session"))
        .where(F.col("session") != F.lit(first))
    )


def _reach(counts: list[tuple[int, int]], wanted: float, start: int) -> tuple[int, int]:
    """The key in which the running sum reaches `wanted`, and the sum before it."""
    total = start
    for key, count in counts:
        if total + count >= wanted:
            return key, total
        total += count
    return counts[-1][0], total - counts[-1][1]
