"""Puts the three edge types into one graph: a quota for each type and item, and weights of one scale."""

from typing import TYPE_CHECKING

from pyspark.sql import Window
from pyspark.sql import functions as F

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

EDGE_TYPES = ("strong_click", "swing", "co_search")


def within_quota(edges: "DataFrame", quota: int) -> "DataFrame":
    """Edges among the `quota` strongest out of their src or into their dst; ties go to the smaller item.

    Either side suffices, so that a tail item keeps the edges that its popular neighbour has no room for.
    """
    out = F.row_number().over(Window.partitionBy("src").orderBy(F.desc("raw"), "dst"))
    into = F.row_number().over(Window.partitionBy("dst").orderBy(F.desc("raw"), "src"))
    kept = edges.withColumn("out", out).withColumn("into", into)
    return kept.where((F.col("out") <= quota) | (F.col("into") <= quota)).select("src", "dst", "raw")


def assemble(strong_click: "DataFrame", swing: "DataFrame", co_search: "DataFrame") -> "DataFrame":
    """The three types, within their quotas → (src, dst, edge_type, raw)."""
    typed = [
        frame.select("src", "dst", F.lit(name).alias("edge_type"), "raw")
        for name, frame in zip(EDGE_TYPES, (strong_click, swing, co_search), strict=True)
    ]
    return typed[0].union(typed[1]).union(typed[2])


def scales(totals: dict[str, tuple[int, int]], one: int) -> dict[str, float]:
    """The factor from raw to weight for each type: every type's mean edge weighs what a mean strong click does.

    A factor for the whole type, so that the order of the raw strengths stays, out of an item and into it. Strong
    clicks stay in their own unit (one = one click of the as-of day); without any, a mean edge weighs 1.

    Args:
        totals: edge type → (sum of raw, number of edges), exact integers.
        one: the raw value of one strong click.
    """
    clicks, n_clicks = totals.get("strong_click", (0, 0))
    mean = clicks / n_clicks / one if n_clicks else 1.0
    return {
        name: 1.0 / one if name == "strong_click" else mean * count / total
        for name, (total, count) in totals.items()
        if total > 0
    }


def weighted(edges: "DataFrame", factors: dict[str, float], codes: "DataFrame") -> "DataFrame":
    """Raw edges of item codes → the edges table: src, dst string, edge_type string, weight double."""
    factor = F.create_map(*[F.lit(part) for name, value in factors.items() for part in (name, value)])
    weight = F.col("raw") * F.element_at(factor, F.col("edge_type")) if factors else F.lit(0.0)
    return named(edges, codes).select("src", "dst", "edge_type", weight.alias("weight"))


def named(pairs: "DataFrame", codes: "DataFrame") -> "DataFrame":
    """Replaces the item codes in src and dst by the item ids."""
    src = codes.select(F.col("item").alias("src"), F.col("item_id").alias("src_id"))
    dst = codes.select(F.col("item").alias("dst"), F.col("item_id").alias("dst_id"))
    rest = [name for name in pairs.columns if name not in ("src", "dst")]
    return (
        pairs.join(src, "src")
        .join(dst, "dst")
        .select(F.col("src_id").alias("src"), F.col("dst_id").alias("dst"), *rest)
    )
