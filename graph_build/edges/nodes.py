"""The nodes of the graph: every item of the catalogue and every item of the log, with its counts."""

from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from graph_build.decay import ONE

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def node_table(items: "DataFrame", catalogue: "DataFrame | None", graph: str, *, tail_max_events: int) -> "DataFrame":
    """Return the nodes table of one graph, sorted by item_id.

    Args:
        items: `rows.item_counts`. Pages that occur only as the source of an event are nodes without events.
        catalogue: item_id; None without an items table.
        graph: "full" or "fit".
        tail_max_events: an item with at most this number of events is a tail item.
    """
    first, last = (F.timestamp_micros(f"{end}_{graph}").alias(f"{end}_seen") for end in ("first", "last"))
    popularity = F.col(f"popularity_{graph}") / F.lit(float(ONE))
    table = items.where((F.col(f"events_{graph}") > 0) | (F.col(f"linked_{graph}") > 0)).select(
        "item_id", F.col(f"events_{graph}").alias("events"), popularity.alias("popularity"), first, last
    )
    in_catalogue = F.lit(False)
    if catalogue is not None:
        table = table.join(catalogue.select("item_id", F.lit(True).alias("known")), "item_id", "full")
        in_catalogue = F.coalesce("known", F.lit(False))
    events = F.coalesce("events", F.lit(0).cast("bigint"))
    return table.select(
        "item_id",
        events.alias("events"),
        F.coalesce("popularity", F.lit(0.0)).alias("popularity"),
        (events <= tail_max_events).alias("is_tail"),
        "first_seen",
        "last_seen",
        in_catalogue.alias("in_catalogue"),
    ).orderBy("item_id")
