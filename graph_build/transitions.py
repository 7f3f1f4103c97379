"""Training pairs of the model: who left which item page for which, and what was bought together."""

from typing import TYPE_CHECKING

from pyspark.sql import Window
from pyspark.sql import functions as F

from graph_build.config import CoPurchaseConfig, StrongClickConfig

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

COLUMNS = ("session", "day", "time", "src", "dst", "steps", "kind")


def strong_clicks(events: "DataFrame", config: StrongClickConfig) -> "DataFrame":
    """Pairs (src, dst) of one session where dst was opened at most `max_steps` items after src.

    With no search between and within the time gap. In a session that logs source items, those links alone count,
    as one step. A pair that repeats in a session counts once, at its fewest steps and then its earliest time.

    Returns: session, day, time (of dst), src, dst (item codes), steps int, kind.
    """
    linked = events.where(F.col("source").isNotNull() & F.col("type").isin("view", "click")).select(
        "session", "day", "time", F.col("source").alias("src"), F.col("item").alias("dst"), F.lit(1).alias("steps")
    )
    walked = Window.partitionBy("session").orderBy("n")
    later = [
        F.struct(
            F.lead("item", step).over(walked).alias("dst"),
            F.lead("time", step).over(walked).alias("then"),
            F.lead("segment", step).over(walked).alias("its_segment"),
            F.lit(step).alias("steps"),
        )
        for step in range(1, config.max_steps + 1)
    ]
    gap = F.expr("timestampdiff(MICROSECOND, time, then)")
    inferred = (
        events.where(F.col("left") & ~F.col("logged"))
        .select("session", "day", "time", F.col("item").alias("src"), "segment", F.array(*later).alias("later"))
        .select("session", "day", "time", "src", "segment", F.inline("later"))
        .where((F.col("its_segment") == F.col("segment")) & (gap <= int(config.max_gap_minutes * 60_000_000)))
        .select("session", "day", F.col("then").alias("time"), "src", "dst", "steps")
    )
    best = F.min(F.struct("steps", "time")).alias("best")
    return (
        inferred.unionByName(linked)
        .where("src != dst")
        .groupBy("session", "day", "src", "dst")
        .agg(best)
        .select("session", "day", "best.time", "src", "dst", "best.steps", F.lit("strong_click").alias("kind"))
    )


def baskets(events: "DataFrame", config: CoPurchaseConfig) -> "DataFrame":
    """Distinct items, in order of first appearance, of each session that has no view or click.

    Returns: session, day, start, all_items int, basket list<struct<n, item, item_id, time>>.
    """
    first = (
        events.where(F.col("item").isNotNull() & ~F.col("browsed"))
        .groupBy("session", "day", "item", "item_id")
        .agg(F.min("n").alias("n"), F.min("time").alias("time"))
    )
    return (
        first.groupBy("session", "day")
        .agg(
            F.min("time").alias("start"),
            F.sort_array(F.collect_list(F.struct("n", "item", "item_id", "time"))).alias("basket"),
        )
        .select(
            "session",
            "day",
            "start",
            F.size("basket").alias("all_items"),
            F.slice("basket", 1, config.max_basket_items).alias("basket"),
        )
    )


def co_purchases(basket: "DataFrame", config: CoPurchaseConfig) -> "DataFrame":
    """Each item of a basket with the `partners` items after it on a ring in seeded hash order, as one step.

    The order inside a basket means nothing, and all its pairs would let the big baskets speak loudest.
    """
    hashed = F.transform(
        "basket",
        lambda entry: F.struct(
            F.xxhash64(F.lit(config.seed), F.col("session"), entry["item_id"]).alias("h"),
            entry["item"].alias("item"),
            entry["time"].alias("time"),
        ),
    )
    size = F.size("ring")
    step = F.explode(F.sequence(F.lit(1), F.least(F.lit(config.partners), size - 1))).alias("step")
    return (
        basket.where(F.size("basket") >= 2)
        .select("session", "day", F.array_sort(hashed).alias("ring"))
        .select("session", "day", "ring", F.posexplode("ring").alias("at", "one"))
        .select("session", "day", "ring", "at", "one", step)
        .withColumn("other", F.get("ring", (F.col("at") + F.col("step")) % size))
        .select(
            "session",
            "day",
            F.col("other.time").alias("time"),
            F.col("one.item").alias("src"),
            F.col("other.item").alias("dst"),
            F.lit(1).alias("steps"),
            F.lit("co_purchase").alias("kind"),
        )
    )
