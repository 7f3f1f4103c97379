"""Counts interactions for the pre-ranker: how often items were opened after other items, after queries and by country.

The same is counted for the categories, brands and advertisers of the items (`ENTITIES`). The counters follow
InteractRank (Pinterest, arXiv 2504.06609), whose feature IQP(p, q) is such a count divided by the count of p. A strong
click counts 1 / steps and every other pair counts 1, whatever its day. Pairs of held-out sessions count only in the
column `full`, and not in `fit`.
"""

from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from graph_build.sessions.holdout import HoldoutCutoff, is_held_out
from graph_build.sessions.rows import by_batch

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

CONTEXTS = "src_query string, src_country string, dst string, held boolean"
# Kind of src → kinds of dst: the item that is opened after src, or its category, brand or advertiser.
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
        kind, src, dst, full, fit. If src is a query, it is the query's hash (`assemble.hash_queries`) in decimal.
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
    """Return the items that each request showed, and those of them that were opened: session, time, items, opened.

    An item counts as opened if any event other than an impression names the request and the item. Requests of which
    all items or none were opened are left out, because they teach no order. So are requests that showed only one item.

    Args:
        checked: checked events (`events.checked`).
        rows: rows of sessions, needed if some events have no session id. A request of such events belongs to the
            session in which one of its items was opened for the first time.
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
    """Give each list without a session id the number of the session in which one of its items was first opened."""
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
