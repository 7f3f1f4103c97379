"""Swing edges: items that the same pairs of otherwise different users opened (arXiv 2010.05525).

User lists go once to every bucket that holds one of their items; a bucket then scores its items alone.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pyspark.sql import Window
from pyspark.sql import functions as F

from graph_build.config import SwingConfig

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame

# User-item entries that one bucket may hold: some hundred MB in a Python worker.
BUCKET_ENTRIES = 2_000_000


def user_items(events: "DataFrame", config: SwingConfig) -> "DataFrame":
    """Clean events → (user, item, item_id, strength): each pair once, with its strongest behaviour in the window."""
    kind = F.col("type")
    strength = (
        F.when(kind == "purchase", config.purchase_weight)
        .when(kind == "add_to_cart", config.add_to_cart_weight)
        .when(kind == "click", config.click_weight)
        .otherwise(config.view_weight)
    )
    return (
        events.where(F.col("item").isNotNull())
        .groupBy("user", "item", "item_id")
        .agg(F.max(strength).alias("strength"))
    )


def capped(pairs: "DataFrame", config: SwingConfig) -> "DataFrame":
    """At most `max_item_users` users an item, then `max_user_items` items a user, by a hash of (user, item)."""
    chance = F.xxhash64(F.lit(config.seed), "user", "item_id")
    by_item = Window.partitionBy("item").orderBy("chance", "user")
    by_user = Window.partitionBy("user").orderBy("chance", "item")
    return (
        pairs.withColumn("chance", chance)
        .withColumn("rank", F.row_number().over(by_item))
        .where(F.col("rank") <= config.max_item_users)
        .withColumn("rank", F.row_number().over(by_user))
        .where(F.col("rank") <= config.max_user_items)
        .select("user", "item", "strength")
    )


def user_lists(pairs: "DataFrame", config: SwingConfig) -> "DataFrame":
    """Capped pairs → (user, list array<struct<item, strength>> in item order) of users with enough items."""
    return (
        pairs.groupBy("user")
        .agg(F.sort_array(F.collect_list(F.struct("item", "strength"))).alias("list"))
        .where(F.size("list") >= config.min_user_items)
    )


def buckets_for(entries: int, parallelism: int) -> int:
    """How many buckets `entries` user-item pairs are scored in: enough to keep every core busy, each small."""
    return max(2 * parallelism, -(-entries // BUCKET_ENTRIES))


def score(lists: "DataFrame", config: SwingConfig, buckets: int) -> "DataFrame":
    """User lists → (src, dst, raw int64): the top-K partners of each item, both ways (Swing is symmetric)."""
    home = F.transform("list", lambda entry: F.pmod(F.hash(entry["item"]), F.lit(buckets)))
    spread = lists.select(
        "user",
        F.col("list.item").alias("items"),
        F.col("list.strength").alias("strengths"),
        home.alias("home"),
        F.explode(F.array_distinct(home)).alias("bucket"),
    )
    both_ways = spread.groupBy("bucket").applyInArrow(_scorer(config), "src bigint, dst bigint, raw bigint")
    return both_ways.distinct()


def _scorer(config: SwingConfig) -> Callable[[Any], Any]:
    """The function that a worker runs on one bucket; it carries plain numbers only."""
    settings: dict[str, Any] = {
        "alpha": config.alpha,
        "user_offset": config.user_offset,
        "user_exponent": config.user_exponent,
        "top_k": config.top_k,
    }

    def score_bucket(table: "pa.Table") -> "pa.Table":
        import numpy as np
        import pyarrow as pa

        from graph_build.swing_kernel import swing_top_k

        table = table.sort_by("user").combine_chunks()
        lists = table["items"].combine_chunks()
        codes = lists.flatten().to_numpy()
        indptr = np.concatenate([[0], np.cumsum(lists.value_lengths().to_numpy())]).astype(np.int64)
        home = table["home"].combine_chunks().flatten().to_numpy()
        known, local = np.unique(codes, return_inverse=True)
        anchors = np.zeros(len(known), np.bool_)
        anchors[local[home == table["bucket"][0].as_py()]] = True
        strength = table["strengths"].combine_chunks().flatten().to_numpy()
        src, dst, raw = swing_top_k(indptr, local.astype(np.int64), strength, anchors, **settings)
        ends = np.concatenate([known[src], known[dst]]), np.concatenate([known[dst], known[src]])
        return pa.table({"src": ends[0], "dst": ends[1], "raw": np.concatenate([raw, raw])})

    return score_bucket
