"""Strong-click edges: daily counts of the session pairs, and their decayed weight."""

from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from graph_build.config import GraphConfig, StrongClickConfig
from graph_build.decay import AsOf, decayed
from graph_build.sessions import rows as sessions
from graph_build.sessions.rows import HoldOut

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def daily(rows: "DataFrame", held: HoldOut | None, config: GraphConfig) -> "DataFrame":
    """Rows of sessions → (day, src, dst, steps, full, fit): counts in the whole graph and without the hold-out."""
    clicks = sessions.clicks(rows, held, config.strong_click, config.co_purchase)
    one = F.lit(1).cast("bigint")
    return clicks.select("day", "src", "dst", "steps", one.alias("full"), (~F.col("held")).cast("bigint").alias("fit"))


def weigh(counts: "DataFrame", as_of: AsOf, config: StrongClickConfig) -> "DataFrame":
    """Counts → pairs (`edges`): Σ decay(day) · count / steps, and `backward` of it for dst → src.

    Args:
        counts: day, src, dst, steps, full and fit, the counts in the whole graph and without the hold-out.

    Returns:
        In units of 2^-32 of a click of the as-of day.
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
    return counts.select(low, high, *weights).groupBy("low", "high").agg(*sums).where("full_up > 0 or full_down > 0")
