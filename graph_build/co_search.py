"""Co-search edges: items that the same user opened after the same search on the same day."""

from typing import TYPE_CHECKING

from pyspark.sql import Window
from pyspark.sql import functions as F

from graph_build.config import CoSearchConfig
from graph_build.decay import decayed

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def searches(events: "DataFrame") -> "DataFrame":
    """Clean events → (day, user, search, item, item_id): what each search of a user led to, each item once."""
    return (
        events.where(F.col("search").isNotNull() & F.col("type").isin("view", "click"))
        .select("day", "user", "search", "item", "item_id")
        .distinct()
    )


def capped(found: "DataFrame", config: CoSearchConfig) -> "DataFrame":
    """At most `max_items_per_search` items a search, chosen by a seeded hash; `is_kept` says which."""
    chance = F.xxhash64(F.lit(config.seed), "user", "search", "item_id")
    order = Window.partitionBy("day", "user", "search").orderBy(chance, "item")
    return found.withColumn("is_kept", F.row_number().over(order) <= config.max_items_per_search)


def daily(kept: "DataFrame") -> "DataFrame":
    """Capped searches → (day, src, dst, count int64): in how many searches of the day both were opened, both ways."""
    lists = kept.groupBy("day", "user", "search").agg(F.collect_list("item").alias("items")).where("size(items) > 1")
    return (
        lists.select("day", "items", F.explode("items").alias("src"))
        .select("day", "src", F.explode("items").alias("dst"))
        .where("src != dst")
        .groupBy("day", "src", "dst")
        .agg(F.count(F.lit(1)).alias("count"))
    )


def weigh(counts: "DataFrame", as_of_day: int, config: CoSearchConfig) -> "DataFrame":
    """Daily counts → (src, dst, raw int64): Σ decay(day) · count.

    Plain counts, not a cosine: counts add up over days exactly, and one shopper's single search must not outweigh
    what a hundred shoppers did.
    """
    weight = decayed(F.col("day"), as_of_day, config.half_life_days) * F.col("count")
    return (
        counts.select("src", "dst", weight.alias("raw"))
        .groupBy("src", "dst")
        .agg(F.sum("raw").alias("raw"))
        .where("raw > 0")
    )
