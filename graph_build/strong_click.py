"""Strong-click edges: daily counts of the session pairs, and their decayed weight."""

from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from graph_build import sessions
from graph_build.config import GraphConfig, StrongClickConfig
from graph_build.decay import AsOf, decayed
from graph_build.sessions import HoldOut

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def daily(rows: "DataFrame", held: HoldOut | None, config: GraphConfig) -> "DataFrame":
    """Rows of sessions → (day, src, dst, steps, full, fit): counts in the whole graph and without the hold-out."""
    clicks = sessions.clicks(rows, held, config.strong_click, config.co_purchase)
    one = F.lit(1).cast("bigint")
    return clicks.select("day", "src", "dst", "steps", one.alias("full"), (~F.col("held")).cast("bigint").alias("fit"))


def weigh(counts: "DataFrame", as_of: AsOf, config: StrongClickConfig) -> "DataFrame":
    """Counts → (src, dst, full, fit): Σ decay(day) · count / steps, and `backward` of it for dst → src.

    Args:
        counts: day, src, dst, steps, full and fit, the counts in the whole graph and without the hold-out.

    Returns:
        raw weights as int64 in fixed point (2^32 = one click of the as-of day), `fit` 0 where there is no such edge.
    """
    share = 1.0 / F.col("steps")
    # Both directions in one row, so that each pair of items is shuffled once.
    forward = F.col("src") < F.col("dst")
    low, high = F.least("src", "dst").alias("low"), F.greatest("src", "dst").alias("high")
    weights = []
    for graph, as_of_day in as_of._asdict().items():
        ahead = decayed(F.col("day"), as_of_day, config.half_life_days, share) * F.col(graph)
        back = decayed(F.col("day"), as_of_day, config.half_life_days, share * F.lit(config.backward)) * F.col(graph)
        weights.append(F.when(forward, ahead).otherwise(back).alias(f"{graph}_up"))
        weights.append(F.when(forward, back).otherwise(ahead).alias(f"{graph}_down"))
    sums = [F.sum(f"{graph}_{way}").alias(f"{graph}_{way}") for graph in as_of._fields for way in ("up", "down")]
    return directed(counts.select(low, high, *weights).groupBy("low", "high").agg(*sums))


def directed(both: "DataFrame") -> "DataFrame":
    """(low, high, full_up, full_down, fit_up, fit_down) → (src, dst, full, fit), a row a direction that weighs."""
    ways = F.array(
        F.struct(F.col("low").alias("src"), F.col("high").alias("dst"), F.col("full_up").alias("full"),
                 F.col("fit_up").alias("fit")),
        F.struct(F.col("high").alias("src"), F.col("low").alias("dst"), F.col("full_down").alias("full"),
                 F.col("fit_down").alias("fit")),
    )  # fmt: skip
    return both.select(F.inline(ways)).where("full > 0")
