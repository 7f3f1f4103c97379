"""Strong-click edges: daily counts of the session pairs, and their decayed weight."""

from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from graph_build.config import StrongClickConfig
from graph_build.decay import decayed

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def daily(transitions: "DataFrame") -> "DataFrame":
    """Strong-click transitions → (day, src, dst, steps, count int64): exact, uncapped, a day at a time."""
    return (
        transitions.where("kind = 'strong_click'")
        .groupBy("day", "src", "dst", "steps")
        .agg(F.count(F.lit(1)).alias("count"))
    )


def weigh(counts: "DataFrame", as_of_day: int, config: StrongClickConfig) -> "DataFrame":
    """Daily counts → (src, dst, raw int64): Σ decay(day) · count / steps, and `backward` of it for dst → src."""
    both = F.explode(
        F.array(
            F.struct("src", "dst", F.lit(1.0).alias("factor")),
            F.struct(F.col("dst").alias("src"), F.col("src").alias("dst"), F.lit(config.backward).alias("factor")),
        )
    ).alias("edge")
    weight = decayed(F.col("day"), as_of_day, config.half_life_days, F.col("edge.factor") / F.col("steps")) * F.col(
        "count"
    )
    return (
        counts.select("day", "steps", "count", both)
        .select("edge.src", "edge.dst", weight.alias("raw"))
        .groupBy("src", "dst")
        .agg(F.sum("raw").alias("raw"))
        .where("raw > 0")
    )
