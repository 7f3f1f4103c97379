"""Combines the three edge types into one graph: a quota for each type and item, and weights on one scale.

Until they are written, edges are kept as pairs. A pair consists of low < high (hashes of items) and raw weights. For
each of a build's two graphs, `full` and `fit`, these are the weights of low → high (`up`) and of high → low (`down`):
int64 in fixed point, 0 for no edge.

A strong-click or co-search edge stays if it is among the `quota` strongest of its type out of src or into dst. Swing
edges are already limited to the top-k partners of each item. Then the weights of each type are multiplied by one
factor, so that its mean edge weighs as much as a mean strong click:

    weight = raw · mean(strong click) / mean(type)

The quota and the scaling are from no paper.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from graph_build.graphs import GRAPHS

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

EDGE_TYPES = ("strong_click", "swing", "co_search")
DIRECTIONS = ("up", "down")
RAW = tuple(f"{graph}_{way}" for graph in GRAPHS for way in DIRECTIONS)
PAIRS = ("low", "high", *RAW)
# A table of at most this many rows, a few tens of MB, is sent whole to every worker.
MAX_BROADCAST_ROWS = 200_000
SIDES = ("out", "into")
LIMITS = "node bigint, " + ", ".join(
    f"{graph}_{side} bigint, {graph}_{side}_last bigint" for graph in GRAPHS for side in SIDES
)


def symmetric(pairs: "DataFrame") -> "DataFrame":
    """Turn (low, high, full, fit) into pairs that weigh the same in both directions."""
    weights = [F.col(graph).alias(f"{graph}_{way}") for graph in GRAPHS for way in DIRECTIONS]
    return pairs.select("low", "high", *weights)


def within_quota(pairs: "DataFrame", quota: int) -> "DataFrame":
    """Keep the edges that are among the `quota` strongest out of src or into dst; ties go to the smaller hash.

    One side suffices, so that a tail item keeps an edge that is not among the strongest of its popular neighbour. Only
    items with more than `quota` neighbours are ranked, and only pairs of two such items can lose an edge.

    Args:
        pairs: pairs of one type; read more than once.
        quota: edges per item and direction.
    """
    neighbours = both_ends(pairs).groupBy("node").agg(F.count(F.lit(1)).alias("n")).where(F.col("n") > quota)
    wide, joinable = _persisted(neighbours.select("node"))
    limits = both_ends(pairs).join(joinable, "node").repartition("node").mapInArrow(_find_limits(quota), LIMITS)
    limits, joinable = _persisted(limits)
    wide.unpersist()
    with_limits = pairs
    for end in ("low", "high"):
        columns = [F.col(name).alias(f"{end}_{name}") for name in limits.columns if name != "node"]
        side = joinable.select(F.col("node").alias(end), *columns, F.lit(True).alias(f"{end}_wide"))
        with_limits = with_limits.join(side, end, "left")
    weights = [_weight_within(graph, way).alias(f"{graph}_{way}") for graph in GRAPHS for way in DIRECTIONS]
    return with_limits.select("low", "high", *weights).where(" or ".join(f"{name} > 0" for name in RAW))


def _persisted(table: "DataFrame") -> "tuple[DataFrame, DataFrame]":
    """Compute the rows once. Return the table twice: as it is, and for joins, which broadcast it if it is small."""
    table = table.persist()
    return table, F.broadcast(table) if table.count() <= MAX_BROADCAST_ROWS else table


def both_ends(pairs: "DataFrame") -> "DataFrame":
    """Return each pair from both ends: node, other, and for each graph the raw weights out of the node and into it."""
    sides = []
    for node, other, out, into in (("low", "high", "up", "down"), ("high", "low", "down", "up")):
        raw = [
            F.col(f"{graph}_{way}").alias(f"{graph}_{side}")
            for graph in GRAPHS
            for way, side in zip((out, into), SIDES, strict=True)
        ]
        sides.append(F.struct(F.col(node).alias("node"), F.col(other).alias("other"), *raw))
    return pairs.select(F.inline(F.array(*sides)))


def _weight_within(graph: str, way: str) -> "Column":
    """Return the raw weight, or 0 where the edge is within the quota of neither end."""
    src, dst = ("low", "high") if way == "up" else ("high", "low")
    raw = F.col(f"{graph}_{way}")

    def is_within(end: str, other: str, side: str) -> "Column":
        least, last = F.col(f"{end}_{graph}_{side}"), F.col(f"{end}_{graph}_{side}_last")
        # Without a limit this side has fewer edges than the quota.
        return least.isNull() | (raw > least) | ((raw == least) & (F.col(other) <= last))

    is_narrow = F.col("low_wide").isNull() | F.col("high_wide").isNull()
    return F.when(is_narrow | is_within(src, dst, "out") | is_within(dst, src, "into"), raw).otherwise(0)


def _find_limits(quota: int) -> Callable[[Iterator[Any]], Iterator[Any]]:
    """Find for each node and side the weakest edge within the quota: its weight, and the hash at its other end."""

    def rank(batches: Iterator[Any]) -> Iterator[Any]:
        import numpy as np
        import pyarrow as pa

        of_partition = list(batches)
        if not of_partition:
            return
        table = pa.Table.from_batches(of_partition)
        node, other = table["node"].to_numpy(), table["other"].to_numpy()
        nodes = np.unique(node)
        columns: dict[str, Any] = {"node": nodes}
        for graph in GRAPHS:
            for side in SIDES:
                raw = table[f"{graph}_{side}"].to_numpy()
                order = np.lexsort((other, -raw, node))
                order = order[raw[order] > 0]
                begin, end = (np.searchsorted(node[order], nodes, bound) for bound in ("left", "right"))
                is_full = end - begin >= quota
                last_edge = np.zeros(len(nodes), np.int64)
                last_edge[is_full] = order[begin[is_full] + quota - 1]
                columns[f"{graph}_{side}"] = pa.array(raw[last_edge], mask=~is_full)
                columns[f"{graph}_{side}_last"] = pa.array(other[last_edge], mask=~is_full)
        yield from pa.table(columns).to_batches(100_000)

    return rank


def union_types(strong_click: "DataFrame", swing: "DataFrame", co_search: "DataFrame") -> "DataFrame":
    """Return the pairs of all types in one table, with `edge_type`.

    Args:
        strong_click: pairs within their quota.
        swing: pairs of the top-k partners.
        co_search: pairs within their quota.
    """
    typed = [
        frame.select(F.lit(name).alias("edge_type"), *PAIRS)
        for name, frame in zip(EDGE_TYPES, (strong_click, swing, co_search), strict=True)
    ]
    return typed[0].union(typed[1]).union(typed[2])


def raw_totals(pairs: "DataFrame") -> dict[str, dict[str, tuple[int, int]]]:
    """Return for each graph and edge type the exact sum of raw weights and the number of edges."""
    sums = []
    for graph in GRAPHS:
        up, down = (F.col(f"{graph}_{way}") for way in DIRECTIONS)
        sums.append(F.sum(up.cast("decimal(38,0)") + down.cast("decimal(38,0)")))
        sums.append(F.sum((up > 0).cast("bigint") + (down > 0).cast("bigint")))
    rows = pairs.groupBy("edge_type").agg(*sums).collect()
    return {
        graph: {row[0]: (int(row[1 + 2 * number]), int(row[2 + 2 * number])) for row in rows}
        for number, graph in enumerate(GRAPHS)
    }


def scale_factors(totals: dict[str, tuple[int, int]], one: int) -> dict[str, float]:
    """Return for each type the factor from raw weight to weight: a mean edge weighs as much as a mean strong click.

    One factor for the whole type keeps the order of its edges, both out of an item and into it. Strong clicks keep
    their own unit, one click of the as-of day. Without strong clicks a mean edge weighs 1.

    Args:
        totals: edge type → (sum of raw weights, number of edges), exact integers.
        one: the raw weight of one strong click.
    """
    clicks, n_clicks = totals.get("strong_click", (0, 0))
    mean = clicks / n_clicks / one if n_clicks else 1.0
    return {
        name: 1.0 / one if name == "strong_click" else mean * count / total
        for name, (total, count) in totals.items()
        if total > 0
    }


def with_item_ids(pairs: "DataFrame", names: "DataFrame") -> "DataFrame":
    """Replace the hashes of the items by their ids: low_id and high_id instead of low and high.

    Args:
        pairs: pairs of any type.
        names: item (hash), item_id.
    """
    low = names.select(F.col("item").alias("low"), F.col("item_id").alias("low_id"))
    high = names.select(F.col("item").alias("high"), F.col("item_id").alias("high_id"))
    return pairs.join(low, "low").join(high, "high").drop("low", "high")


def edge_table(pairs: "DataFrame", graph: str, factors: dict[str, float]) -> "DataFrame":
    """Return the edges table of one graph: src, dst string, edge_type string, weight double.

    Args:
        pairs: `with_item_ids`, with edge_type.
        graph: "full" or "fit".
        factors: `scale_factors` of that graph.
    """
    factor = F.create_map(*[F.lit(part) for name, value in factors.items() for part in (name, value)])
    factor = F.element_at(factor, F.col("edge_type")) if factors else F.lit(0.0)
    sides = [
        F.struct(
            F.col(src).alias("src"),
            F.col(dst).alias("dst"),
            "edge_type",
            (F.col(f"{graph}_{way}") * factor).alias("weight"),
        )
        for src, dst, way in (("low_id", "high_id", "up"), ("high_id", "low_id", "down"))
    ]
    return pairs.select(F.inline(F.array(*sides))).where("weight > 0")
