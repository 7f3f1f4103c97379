"""Strong-click edges: a shopper left the page of one item for that of another within a few steps of a session.

The raw weight of src → dst is Σ decay(day) · count(day, steps) / steps over all days and steps; dst → src weighs
`backward` times as much. LightSAGE (arXiv 2310.19394) has such edges from strong signals; the weights are our own.
"""

from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from graph_build.config import GraphConfig, StrongClickConfig
from graph_build.decay import decayed
from graph_build.edges.combine import DIRECTIONS
from graph_build.graphs import GRAPHS, AsOf
from graph_build.sessions.holdout import HoldoutCutoff
from graph_build.sessions.rows import strong_clicks

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def daily_clicks(rows: "DataFrame", cutoff: HoldoutCutoff | None, config: GraphConfig) -> "DataFrame":
    """Return one row per strong click, to be summed: day, src, dst, steps, full and fit (1 if that graph has it, or 0).

    Args:
        rows: rows of sessions.
        cutoff: the first held-out session.
        config: rules of strong clicks.
    """
    clicks = strong_clicks(rows, cutoff, config)
    one = F.lit(1).cast("bigint")
    return clicks.select("day", "src", "dst", "steps", one.alias("full"), (~F.col("held")).cast("bigint").alias("fit"))


def weigh_clicks(counts: "DataFrame", as_of: AsOf, config: StrongClickConfig) -> "DataFrame":
    """Turn counts into weighted pairs, in the form that `combine` describes.

    A click over one step on the as-of day weighs 2^32 from src to dst.

    Args:
        counts: day, src, dst, steps, and the counts of both graphs, full and fit.
        as_of: the last day of each graph.
        config: half-life and share of the backward direction.
    """
    share = 1.0 / F.col("steps")
    # Both directions stand in one row, so that each pair of items is shuffled once.
    is_up = F.col("src") < F.col("dst")
    low, high = F.least("src", "dst").alias("low"), F.greatest("src", "dst").alias("high")
    weights = []
    for graph, as_of_day in zip(GRAPHS, as_of, strict=True):
        ahead = decayed(F.col("day"), as_of_day, config.half_life_days, share) * F.col(graph)
        back = decayed(F.col("day"), as_of_day, config.half_life_days, share * F.lit(config.backward)) * F.col(graph)
        weights.append(F.when(is_up, ahead).otherwise(back).alias(f"{graph}_up"))
        weights.append(F.when(is_up, back).otherwise(ahead).alias(f"{graph}_down"))
    sums = [F.sum(f"{graph}_{way}").alias(f"{graph}_{way}") for graph in GRAPHS for way in DIRECTIONS]
    return counts.select(low, high, *weights).groupBy("low", "high").agg(*sums).where("full_up > 0 or full_down > 0")
