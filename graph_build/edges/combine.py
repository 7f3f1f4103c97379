"""Puts the three edge types into one graph: a quota for each type and item, and weights of one scale.

Until they are named, edges travel as pairs: low < high (hashes of items), and for each graph the raw weight of
low → high (`up`) and of high → low (`down`), int64 in fixed point, 0 where there is no such edge.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

EDGE_TYPES = ("strong_click", "swing", "co_search")
GRAPHS = ("full", "fit")
WAYS = ("up", "down")
RAW = tuple(f"{graph}_{way}" for graph in GRAPHS for way in WAYS)
PAIRS = ("low", "high", *RAW)
# Rows that are sent whole to every worker; some ten MB.
MOST_BROADCAST = 200_000
LEAST = "node bigint, " + ", ".join(
    f"{graph}_{way} bigint, {graph}_{way}_last bigint" for graph in GRAPHS for way in ("out", "into")
)


def symmetric(pairs: "DataFrame") -> "DataFrame":
    """(low, high, full, fit) → pairs that weigh the same both ways."""
    return pairs.select("low", "high", *[F.col(graph).alias(f"{graph}_{way}") for graph in GRAPHS for way in WAYS])


def within_quota(pairs: "DataFrame", quota: int) -> "DataFrame":
    """Edges among the `quota` strongest out of their src or into their dst; ties go to the smaller hash.

    Either side suffices, so that a tail item keeps the edges that its popular neighbour has no room for. Only the
    items with more neighbours than that are ranked, and only pairs of two such items can lose an edge.

    Args:
        pairs: read more than once.
    """
    neighbours = ends(pairs).groupBy("node").agg(F.count(F.lit(1)).alias("n")).where(F.col("n") > quota)
    wide, joined = _joinable(neighbours.select("node"))
    ranked = ends(pairs).join(joined, "node").repartition("node").mapInArrow(_least_kept(quota), LEAST)
    limits, joined = _joinable(ranked)
    wide.unpersist()
    marked = pairs
    for end in ("low", "high"):
        columns = [F.col(name).alias(f"{end}_{name}") for name in limits.columns if name != "node"]
        side = joined.select(F.col("node").alias(end), *columns, F.lit(True).alias(f"{end}_wide"))
        marked = marked.join(side, end, "left")
    kept = [_kept(graph, way).alias(f"{graph}_{way}") for graph in GRAPHS for way in WAYS]
    return marked.select("low", "high", *kept).where(" or ".join(f"{name} > 0" for name in RAW))


def _joinable(few: "DataFrame") -> "tuple[DataFrame, DataFrame]":
    """The rows, computed once, and the same as a join should take them: broadcast when they are few indeed."""
    held = few.persist()
    return held, F.broadcast(held) if held.count() <= MOST_BROADCAST else held


def ends(pairs: "DataFrame") -> "DataFrame":
    """Each pair from both its ends: (node, other, and for each graph the raw weight out of the node and into it)."""
    sides = []
    for node, other, out, into in (("low", "high", "up", "down"), ("high", "low", "down", "up")):
        raw = [
            F.col(f"{graph}_{way}").alias(f"{graph}_{name}")
            for graph in GRAPHS
            for way, name in ((out, "out"), (into, "into"))
        ]
        sides.append(F.struct(F.col(node).alias("node"), F.col(other).alias("other"), *raw))
    return pairs.select(F.inline(F.array(*sides)))


def _kept(graph: str, way: str) -> "Column":
    """The raw weight, or 0 where both ends have more than a quota of stronger edges."""
    src, dst = ("low", "high") if way == "up" else ("high", "low")
    raw = F.col(f"{graph}_{way}")

    def within(end: str, other: str, side: str) -> "Column":
        least, last = F.col(f"{end}_{graph}_{side}"), F.col(f"{end}_{graph}_{side}_last")
        # Without a limit there are no more edges of this kind than the quota.
        return least.isNull() | (raw > least) | ((raw == least) & (F.col(other) <= last))

    narrow = F.col("low_wide").isNull() | F.col("high_wide").isNull()
    return F.when(narrow | within(src, dst, "out") | within(dst, src, "into"), raw).otherwise(0)


def _least_kept(quota: int) -> Callable[[Iterator[Any]], Iterator[Any]]:
    def rank(batches: Iterator[Any]) -> Iterator[Any]:
        import numpy as np
        import pyarrow as pa

        held = list(batches)
        if not held:
            return
        table = pa.Table.from_batches(held)
        node, other = table["node"].to_numpy(), table["other"].to_numpy()
        nodes = np.unique(node)
        columns: dict[str, Any] = {"node": nodes}
        for graph in GRAPHS:
            for side in ("out", "into"):
                raw = table[f"{graph}_{side}"].to_numpy()
                order = np.lexsort((other, -raw, node))
                order = order[raw[order] > 0]
                begin, end = (np.searchsorted(node[order], nodes, way) for way in ("left", "right"))
                full = end - begin >= quota
                place = np.zeros(len(nodes), np.int64)
                place[full] = order[begin[full] + quota - 1]
                columns[f"{graph}_{side}"] = pa.array(raw[place], mask=~full)
                columns[f"{graph}_{side}_last"] = pa.array(other[place], mask=~full)
        yield from pa.table(columns).to_batches(100_000)

    return rank


def assemble(strong_click: "DataFrame", swing: "DataFrame", co_search: "DataFrame") -> "DataFrame":
    """The three types, within their quotas → pairs with edge_type."""
    typed = [
        frame.select(F.lit(name).alias("edge_type"), *PAIRS)
        for name, frame in zip(EDGE_TYPES, (strong_click, swing, co_search), strict=True)
    ]
    return typed[0].union(typed[1]).union(typed[2])


def totals(pairs: "DataFrame") -> dict[str, dict[str, tuple[int, int]]]:
    """Graph → edge type → (sum of raw weights, number of edges), exact."""
    sums = []
    for graph in GRAPHS:
        up, down = (F.col(f"{graph}_{way}") for way in WAYS)
        sums.append(F.sum(up.cast("decimal(38,0)") + down.cast("decimal(38,0)")))
        sums.append(F.sum((up > 0).cast("bigint") + (down > 0).cast("bigint")))
    rows = pairs.groupBy("edge_type").agg(*sums).collect()
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


def named(pairs: "DataFrame", names: "DataFrame") -> "DataFrame":
    """Pairs with the ids of their items: low_id and high_id instead of the hashes. `names`: item, item_id."""
    low = names.select(F.col("item").alias("low"), F.col("item_id").alias("low_id"))
    high = names.select(F.col("item").alias("high"), F.col("item_id").alias("high_id"))
    return pairs.join(low, "low").join(high, "high").drop("low", "high")


def weighted(named: "DataFrame", graph: str, factors: dict[str, float]) -> "DataFrame":
    """Named pairs → the edges table of one graph: src, dst string, edge_type string, weight double."""
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
    return named.select(F.inline(F.array(*sides))).where("weight > 0")
