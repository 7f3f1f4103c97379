"""Interaction counters, for the pre-ranker: how often what belongs to one entity was opened after another.

After InteractRank (Pinterest, arXiv 2504.06609), whose IQP(p, q) is such a count over that of p. A pair counts 1/steps
like a strong click of the as-of day; the hold-out's pairs are in `full` alone.
"""

from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from graph_build.sessions.rows import HoldOut, by_batch, is_held

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

ASKED = "src_query string, src_country string, dst string, held boolean"
# What is viewed or said → what belongs to the item that was opened.
ENTITIES = {
    "item": ("item", "category", "brand", "advertiser"),
    "category": ("item", "category", "brand"),
    "query": ("item", "category"),
    "country": ("item", "category"),
}


def counters(transitions: "DataFrame", rows: "DataFrame", held: HoldOut | None, entities: "DataFrame") -> "DataFrame":
    """(kind, src, dst, full, fit): of each kind of pair, "item>category" for one, how often it happened.

    Args:
        transitions: the training pairs, with `held`.
        rows: of sessions: a query is the hash of `session_assembly.searched`, in decimal.
        entities: `of_items`.
    """
    weight = F.when(F.col("kind") == "strong_click", 1.0 / F.col("steps")).otherwise(1.0)
    pairs = _summed(transitions, ["src", "dst"], weight)
    viewed = entities.select(F.col("item").alias("src"), F.col("category").alias("src_category"))
    pairs = pairs.withColumn("src_item", F.col("src")).join(viewed, "src", "left")
    asked = _summed(_asked(rows, held), ["src_query", "src_country", "dst"], F.lit(1.0))
    both = pairs.drop("src").unionByName(asked, allowMissingColumns=True)
    opened = entities.select(F.col("item").alias("dst"), "category", "brand", "advertiser")
    both = both.withColumn("item", F.col("dst")).join(opened, "dst", "left")
    every = [
        F.struct(F.lit(f"{src}>{dst}").alias("kind"), F.col(f"src_{src}").alias("src"), F.col(dst).alias("dst"))
        for src, dsts in ENTITIES.items()
        for dst in dsts
    ]
    each = both.select(F.explode(F.array(*every)).alias("of"), "full", "fit").select("of.*", "full", "fit")
    known = each.where("src is not null and dst is not null")
    return known.groupBy("kind", "src", "dst").agg(F.sum("full").alias("full"), F.sum("fit").alias("fit"))


def of_items(items: "DataFrame | None", ads: "DataFrame | None", nodes: "DataFrame") -> "DataFrame":
    """(item, category, brand, advertiser) of every item; of several advertisers the first by name."""
    found = nodes.select(F.col("item_id").alias("item"))
    kept = [name for name in ("category", "brand") if items is not None and name in items.columns]
    if items is not None and kept:
        found = found.join(items.select(F.col("item_id").alias("item"), *kept), "item", "left")
    if ads is not None:
        of_item = ads.groupBy(F.col("item_id").alias("item")).agg(F.min("advertiser_id").alias("advertiser"))
        found = found.join(of_item, "item", "left")
    for name in ("category", "brand", "advertiser"):
        if name not in found.columns:
            found = found.withColumn(name, F.lit(None).cast("string"))
    return found


def impressions(checked: "DataFrame") -> "DataFrame":
    """Checked events (`events.checked`) → (session, time, items, opened): what a request showed, and what was opened.

    Only requests that showed two items or more, of which some, not all, were opened: the others teach no order. Any
    positive action with the request's id counts as opened.
    """
    asked = checked.where("reason is null and not left_out and request is not null and item_id is not null")
    shown = F.col("event_type") == "impression"
    lists = asked.groupBy("session", "request").agg(
        F.min(F.when(shown, F.col("time"))).alias("time"),
        F.array_sort(F.collect_set(F.when(shown, F.col("item_id")))).alias("items"),
        F.collect_set(F.when(~shown, F.col("item_id"))).alias("acted"),
    )
    lists = lists.withColumn("opened", F.array_intersect("items", "acted"))
    lists = lists.where("size(opened) > 0 and size(opened) < size(items)")
    return lists.select("session", F.timestamp_micros("time").alias("time"), "items", "opened")


def _summed(frame: "DataFrame", keys: list[str], weight: "Column") -> "DataFrame":
    fit = F.when(F.col("held"), 0.0).otherwise(weight)
    return frame.groupBy(*keys).agg(F.sum(weight).alias("full"), F.sum(fit).alias("fit"))


def _asked(rows: "DataFrame", held: HoldOut | None) -> "DataFrame":
    """Each item opened after a search or from a known country."""

    def flatten(rows: Any) -> Any:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        from graph_build.sessions.kernel import LISTED

        opened = np.flatnonzero(rows.numbers("flags").view(np.uint8) & LISTED)
        at, owner = pa.array(opened), pa.array(rows.owner[opened])
        query = rows.flat("search").take(at).cast(pa.string())
        country = rows.batch["country"].take(owner)
        columns = {
            "src_query": query,
            "src_country": country,
            "dst": rows.flat("item_id").take(at),
            "held": rows.batch["held"].take(owner),
        }
        return pa.table(columns).filter(pc.or_(query.is_valid(), country.is_valid()))

    needed = rows.select("type", "item_id", "search", "flags", "country", is_held(held).alias("held"))
    return needed.mapInArrow(by_batch(flatten), ASKED)
