"""Interaction counters for the pre-ranker: how often an entity was opened after another (`ENTITIES`).

They follow InteractRank (Pinterest, arXiv 2504.06609), whose feature IQP(p, q) is such a count divided by the count of
p. A strong click counts 1 / steps, every other pair 1; older days count in full. Pairs of held-out sessions count only
in `full`.
"""

from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from graph_build.sessions.holdout import HoldoutCutoff, is_held_out
from graph_build.sessions.rows import by_batch

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

CONTEXTS = "src_query string, src_country string, dst string, held boolean"
# Entity that comes first → entities of the item that is opened after it.
ENTITIES = {
    "item": ("item", "category", "brand", "advertiser"),
    "category": ("item", "category", "brand"),
    "query": ("item", "category"),
    "country": ("item", "category"),
}


def count_interactions(
    transitions: "DataFrame", rows: "DataFrame", cutoff: HoldoutCutoff | None, entities: "DataFrame"
) -> "DataFrame":
    """Count for each kind of pair, such as "item>category", how often dst was opened after src.

    Args:
        transitions: the training pairs, with `held`.
        rows: rows of sessions.
        cutoff: the first held-out session.
        entities: `item_entities`.

    Returns:
        kind, src, dst, full, fit. The src of a query is its hash (`assemble.hash_queries`) in decimal.
    """
    weight = F.when(F.col("kind") == "strong_click", 1.0 / F.col("steps")).otherwise(1.0)
    pairs = _sum_by(transitions, ["src", "dst"], weight)
    viewed = entities.select(F.col("item").alias("src"), F.col("category").alias("src_category"))
    pairs = pairs.withColumn("src_item", F.col("src")).join(viewed, "src", "left")
    contexts = _sum_by(_contexts(rows, cutoff), ["src_query", "src_country", "dst"], F.lit(1.0))
    both = pairs.drop("src").unionByName(contexts, allowMissingColumns=True)
    opened = entities.select(F.col("item").alias("dst"), "category", "brand", "advertiser")
    both = both.withColumn("item", F.col("dst")).join(opened, "dst", "left")
    kinds = [
        F.struct(F.lit(f"{src}>{dst}").alias("kind"), F.col(f"src_{src}").alias("src"), F.col(dst).alias("dst"))
        for src, dsts in ENTITIES.items()
        for dst in dsts
    ]
    of_kind = both.select(F.explode(F.array(*kinds)).alias("pair"), "full", "fit").select("pair.*", "full", "fit")
    complete = of_kind.where("src is not null and dst is not null")
    return complete.groupBy("kind", "src", "dst").agg(F.sum("full").alias("full"), F.sum("fit").alias("fit"))


def item_entities(items: "DataFrame | None", ads: "DataFrame | None", nodes: "DataFrame") -> "DataFrame":
    """Return item, category, brand and advertiser of every item.

    If ads of several advertisers show an item, it gets the advertiser whose id sorts first.

    Args:
        items: the checked items table.
        ads: the checked ads table.
        nodes: the nodes of the whole graph.
    """
    entities = nodes.select(F.col("item_id").alias("item"))
    columns = [name for name in ("category", "brand") if items is not None and name in items.columns]
    if items is not None and columns:
        entities = entities.join(items.select(F.col("item_id").alias("item"), *columns), "item", "left")
    if ads is not None:
        advertisers = ads.groupBy(F.col("item_id").alias("item")).agg(F.min("advertiser_id").alias("advertiser"))
        entities = entities.join(advertisers, "item", "left")
    for name in ("category", "brand", "advertiser"):
        if name not in entities.columns:
            entities = entities.withColumn(name, F.lit(None).cast("string"))
    return entities


def impression_lists(checked: "DataFrame", rows: "DataFrame | None" = None) -> "DataFrame":
    """Return the items that each request showed, and those that were opened: session, time, items, opened.

    Requests that showed fewer than two items are left out. So are requests whose items were all opened, or none of
    them, because they teach no order. Every event that names the request opens its item, unless it is an impression.

    Args:
        checked: checked events (`events.checked`).
        rows: rows of the sessions of these events, needed where the log does not name them; a request then belongs to
            the session in which its first item was opened.
    """
    requested = checked.where("reason is null and not left_out and request is not null and item_id is not null")
    is_shown = F.col("event_type") == "impression"
    lists = requested.groupBy("session", "request").agg(
        F.min(F.when(is_shown, F.col("time"))).alias("time"),
        F.array_sort(F.collect_set(F.when(is_shown, F.col("item_id")))).alias("items"),
        F.collect_set(F.when(~is_shown, F.col("item_id"))).alias("acted"),
        F.min(F.when(~is_shown, F.col("time"))).alias("acted_at"),
        F.first("id").alias("id"),
        F.first("user").alias("user"),
    )
    lists = lists.withColumn("opened", F.array_intersect("items", "acted"))
    lists = lists.where("size(opened) > 0 and size(opened) < size(items)")
    if rows is not None:
        lists = _in_cut_sessions(lists, rows)
    return lists.select("session", F.timestamp_micros("time").alias("time"), "items", "opened")


def _in_cut_sessions(lists: "DataFrame", rows: "DataFrame") -> "DataFrame":
    """Give lists without a session id the number of the session that was cut from what their user did."""
    last = F.element_at("time", -1).alias("last")
    cut = rows.where("id is null").select(
        F.col("session").alias("cut"), F.element_at("user", 1).alias("owner"), "start", last
    )
    is_inside = (F.col("user") == F.col("owner")) & F.col("acted_at").between(F.col("start"), F.col("last"))
    joined = lists.join(cut, F.col("id").isNull() & is_inside, "left")
    return joined.withColumn("session", F.coalesce("cut", "session"))


def _sum_by(frame: "DataFrame", keys: list[str], weight: "Column") -> "DataFrame":
    fit = F.when(F.col("held"), 0.0).otherwise(weight)
    return frame.groupBy(*keys).agg(F.sum(weight).alias("full"), F.sum(fit).alias("fit"))


def _contexts(rows: "DataFrame", cutoff: HoldoutCutoff | None) -> "DataFrame":
    """Return each item that was opened after a search or from a known country."""

    def to_table(sessions: Any) -> Any:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        from graph_build.sessions.kernel import LISTED

        listed = np.flatnonzero(sessions.flags() & LISTED)
        events, owner = pa.array(listed), pa.array(sessions.owner[listed])
        query = sessions.events("search").take(events).cast(pa.string())
        country = sessions.batch["country"].take(owner)
        columns = {
            "src_query": query,
            "src_country": country,
            "dst": sessions.events("item_id").take(events),
            "held": sessions.batch["held"].take(owner),
        }
        return pa.table(columns).filter(pc.or_(query.is_valid(), country.is_valid()))

    needed = rows.select("type", "item_id", "search", "flags", "country", is_held_out(cutoff).alias("held"))
    return needed.mapInArrow(by_batch(to_table), CONTEXTS)
