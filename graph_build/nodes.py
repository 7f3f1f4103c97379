"""The nodes of the graph: every item of the catalogue and every item of the log, with its counts."""

from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from graph_build.decay import ONE, decayed

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def nodes(
    events: "DataFrame",
    catalogue: "DataFrame | None",
    linked: "DataFrame | None",
    *,
    as_of_day: int,
    half_life_days: float,
    tail_max_events: int,
) -> "DataFrame":
    """The nodes table, sorted by item_id.

    Args:
        events: clean events.
        catalogue: (item_id), or None when no items table was given.
        linked: (item_id) of pages that only ever appear as the source of a click; nodes without events of their own.
    """
    counted = events.where("counted")
    weight = F.sum(decayed(F.col("day"), as_of_day, half_life_days))
    table = counted.groupBy("item_id").agg(
        F.count(F.lit(1)).alias("events"),
        (weight / F.lit(float(ONE))).alias("popularity"),
        F.min("time").alias("first_seen"),
        F.max("time").alias("last_seen"),
    )
    if linked is not None:
        table = table.join(linked.distinct(), "item_id", "full")
    in_catalogue = F.lit(False)
    if catalogue is not None:
        table = table.join(catalogue.select("item_id", F.lit(True).alias("known")), "item_id", "full")
        in_catalogue = F.coalesce("known", F.lit(False))
    seen = F.coalesce("events", F.lit(0).cast("bigint"))
    return table.select(
        "item_id",
        seen.alias("events"),
        F.coalesce("popularity", F.lit(0.0)).alias("popularity"),
        (seen <= tail_max_events).alias("is_tail"),
        "first_seen",
        "last_seen",
        in_catalogue.alias("in_catalogue"),
    ).orderBy("item_id")
