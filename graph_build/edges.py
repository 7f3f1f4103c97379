"""Puts the three edge types into one graph: a quota for each type and item, and weights of one scale."""

from typing import TYPE_CHECKING

from pyspark.sql import Window
from pyspark.sql import functions as F

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

EDGE_TYPES = ("strong_click", "swing", "co_search")
GRAPHS = ("full", "fit")


def within_quota(edges: "DataFrame", quota: int) -> "DataFrame":
    """Edges among the `quota` strongest out of their src or into their dst; ties go to the smaller hash.

    Either side suffices, so that a tail item keeps the edges that its popular neighbour has no room for.

    Args:
        edges: src, dst, and for each graph its raw weight (0: not an edge of it). Read more than once.

    Returns:
        The same, with 0 where an edge is cut.
    """
    ends = edges.select("src").union(edges.select("dst"))
    # No more than twice this many edges, one in and one out, can go to or from any other item.
    wide = ends.groupBy("src").agg(F.count(F.lit(1)).alias("ends")).where(F.col("ends") > quota)
    wide_src = F.broadcast(wide.select("src", F.lit(True).alias("from_wide")))
    wide_dst = F.broadcast(wide.select(F.col("src").alias("dst"), F.lit(True).alias("into_wide")))
    marked = edges.join(wide_src, "src", "left").join(wide_dst, "dst", "left")
    near_wide = F.coalesce("from_wide", "into_wide", F.lit(False))
    ranked = marked.where(near_wide)
    for graph in GRAPHS:
        out = Window.partitionBy("src").orderBy(F.desc(graph), "dst")
        ranked = ranked.withColumn(f"{graph}_out", F.row_number().over(out))
    for graph in GRAPHS:
        into = Window.partitionBy("dst").orderBy(F.desc(graph), "src")
        ranked = ranked.withColumn(f"{graph}_into", F.row_number().over(into))
    kept = [
        F.when(
            F.col("from_wide").isNull()
            | F.col("into_wide").isNull()
            | (F.col(f"{graph}_out") <= quota)
            | (F.col(f"{graph}_into") <= quota),
            F.col(graph),
        )
        .otherwise(0)
        .alias(graph)
        for graph in GRAPHS
    ]
    narrow = marked.where(~near_wide).select("src", "dst", *GRAPHS)
    return narrow.union(ranked.select("src", "dst", *kept).where("full > 0 or fit > 0"))


def assemble(strong_click: "DataFrame", swing: "DataFrame", co_search: "DataFrame") -> "DataFrame":
    """The three types, within their quotas → (src, dst, edge_type, full, fit)."""
    typed = [
        frame.select("src", "dst", F.lit(name).alias("edge_type"), *GRAPHS)
        for name, frame in zip(EDGE_TYPES, (strong_click, swing, co_search), strict=True)
    ]
    return typed[0].union(typed[1]).union(typed[2])


def totals(edges: "DataFrame") -> dict[str, dict[str, tuple[int, int]]]:
    """Graph → edge type → (sum of raw weights, number of edges), exact."""
    sums = [
        part
        for graph in GRAPHS
        for part in (F.sum(F.col(graph).cast("decimal(38,0)")), F.sum((F.col(graph) > 0).cast("bigint")))
    ]
    rows = edges.groupBy("edge_type").agg(*sums).collect()
    return {
        graph: {row[0]: (int(row[1 + 2 * place]), int(row[2 + 2 * place])) for row in rows}
        for place, graph in enumerate(GRAPHS)
    }


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


def weighted(edges: "DataFrame", graph: str, factors: dict[str, float], names: "DataFrame") -> "DataFrame":
    """Raw edges of one graph → the edges table: src, dst string, edge_type string, weight double."""
    factor = F.create_map(*[F.lit(part) for name, value in factors.items() for part in (name, value)])
    weight = F.col(graph) * F.element_at(factor, F.col("edge_type")) if factors else F.lit(0.0)
    return named(edges.where(F.col(graph) > 0), names).select("src", "dst", "edge_type", weight.alias("weight"))


def named(pairs: "DataFrame", names: "DataFrame") -> "DataFrame":
    """Replaces the hashes in src and dst by the item ids. `names`: item, item_id."""
    src = names.select(F.col("item").alias("src"), F.col("item_id").alias("src_id"))
    dst = names.select(F.col("item").alias("dst"), F.col("item_id").alias("dst_id"))
    rest = [name for name in pairs.columns if name not in ("src", "dst")]
    return (
        pairs.join(src, "src")
        .join(dst, "dst")
        .select(F.col("src_id").alias("src"), F.col("dst_id").alias("dst"), *rest)
    )
