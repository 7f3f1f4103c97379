"""Measures a finished graph for its report: components, density, degrees, hubs, and how its edges join categories.

Only a graph of at most `report.max_component_edges` edges is brought to the driver. For a larger graph, Spark counts
isolated items, degrees, hubs and categories, and the rest is left out.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import functions as F

from graph_build.config import ReportConfig
from graph_build.edges.combine import EDGE_TYPES
from graph_build.report.category_mixing import measure_mixing
from graph_build.report.statistics import CategoryMixing, DegreePoint, DensificationStep, GraphStatistics, Hub

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

Codes = NDArray[np.int64]

REACH_SAMPLE = 32
HUBS = 8


def measure_graph(
    pairs: "DataFrame",
    nodes: int,
    edge_counts: dict[str, int],
    names: "DataFrame",
    catalogue: "DataFrame | None",
    config: ReportConfig,
) -> GraphStatistics:
    """Measure the full graph.

    Args:
        pairs: typed pairs of `edges.combine` with their raw weights; read several times.
        nodes: number of items.
        edge_counts: edge type → edges.
        names: item (hash), item_id.
        catalogue: item_id, category; None without categories.
        config: the numbers of edges above which statistics are left out.
    """
    total = sum(edge_counts.values())
    forward, backward = F.col("full_up") > 0, F.col("full_down") > 0
    pairs = pairs.where(forward | backward)
    mixing = None
    if catalogue is not None:
        mixing = measure_mixing(pairs, total // 2, names.join(catalogue, "item_id").select("item", "category"))
    ends = pairs.select("edge_type", F.explode(F.array("low", "high")).alias("item"))
    degrees = ends.groupBy("edge_type", "item").agg(F.count(F.lit(1)).alias("degree")).persist()
    hubs = _find_hubs(degrees, names)
    if total > config.max_component_edges:
        note = (
            f"Components and density after each added edge type are left out: {total:,} edges are more than "
            f"report.max_component_edges = {config.max_component_edges:,}."
        )
        isolated = nodes - degrees.select("item").distinct().count()
        statistics = GraphStatistics(isolated, None, _degree_points(degrees), hubs, [], [note], mixing)
    else:
        number = F.array_position(F.array(*[F.lit(name) for name in EDGE_TYPES]), F.col("edge_type")).cast("int")
        columns = number.alias("edge_type"), forward.alias("forward"), backward.alias("backward")
        graph = _TypedPairs.from_arrow(pairs.select("low", "high", *columns).toArrow())
        statistics = _measure_in_memory(graph, nodes, hubs, mixing, config)
    degrees.unpersist()
    return statistics


def titles_of(items: "DataFrame", item_ids: Iterable[str]) -> dict[str, str]:
    """Return item_id → title of some items, where the catalogue has one.

    Args:
        items: the checked items table, with or without a column title.
        item_ids: a few ids.
    """
    if "title" not in items.columns or not (chosen := sorted(set(item_ids))):
        return {}
    rows = items.where(F.col("item_id").isin(chosen) & F.col("title").isNotNull()).select("item_id", "title").collect()
    return {row[0]: row[1] for row in rows if row[1].strip()}


@dataclass(frozen=True)
class _TypedPairs:
    """Pairs of neighbours by edge type. Items that have any edge are numbered from 0 to `linked` - 1.

    `edge_type` is the type's position in EDGE_TYPES, counted from 1. `forward` tells whether low → high is an edge, and
    `backward` whether high → low is an edge.
    """

    low: Codes
    high: Codes
    edge_type: NDArray[np.int32]
    forward: NDArray[np.bool_]
    backward: NDArray[np.bool_]
    linked: int

    @classmethod
    def from_arrow(cls, table: Any) -> "_TypedPairs":
        hashes = np.concatenate([table["low"].to_numpy(), table["high"].to_numpy()])
        codes = np.unique(hashes, return_inverse=True)[1].astype(np.int64)
        return cls(
            low=codes[: len(table)],
            high=codes[len(table) :],
            edge_type=table["edge_type"].to_numpy(),
            forward=table["forward"].to_numpy(),
            backward=table["backward"].to_numpy(),
            linked=int(codes.max()) + 1 if len(codes) else 0,
        )

    def edges(self, chosen: NDArray[np.bool_]) -> tuple[Codes, Codes]:
        """Return the sources and the destinations of the edges among the chosen pairs."""
        forward, backward = chosen & self.forward, chosen & self.backward
        src = np.concatenate([self.low[forward], self.high[backward]])
        return src, np.concatenate([self.high[forward], self.low[backward]])


def _measure_in_memory(
    graph: _TypedPairs, nodes: int, hubs: dict[str, list[Hub]], mixing: CategoryMixing | None, config: ReportConfig
) -> GraphStatistics:
    steps: list[DensificationStep] = []
    degrees: dict[str, list[DegreePoint]] = {}
    added = np.zeros(len(graph.low), np.bool_)
    starts = np.random.default_rng(7).permutation(graph.linked)[:REACH_SAMPLE]
    for number, edge_type in enumerate(EDGE_TYPES, 1):
        of_type = graph.edge_type == number
        if not of_type.any():
            continue
        added |= of_type
        src, dst = graph.edges(added)
        reached = _mean_reached(src, dst, graph.linked, starts) * graph.linked / nodes
        steps.append(_measure_step(edge_type, src, dst, nodes, reached / nodes, config))
        ends = np.concatenate([graph.low[of_type], graph.high[of_type]])
        degrees[edge_type] = _at_least(np.bincount(np.bincount(ends)))
    notes: list[str] = []
    if any(step.clustering is None for step in steps):
        notes.append(
            "Clustering and cores are left out where there are more than "
            f"report.max_networkx_edges = {config.max_networkx_edges:,} pairs."
        )
    mean_degree = 2 * steps[-1].pairs / nodes if steps else 0.0
    return GraphStatistics(nodes - graph.linked, mean_degree, degrees, hubs, steps, notes, mixing)


def _measure_step(
    edge_type: str, src: Codes, dst: Codes, nodes: int, reachable: float, config: ReportConfig
) -> DensificationStep:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    a, b = _unordered_pairs(src, dst)
    size = int(max(src.max(), dst.max())) + 1
    matrix = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(size, size))
    _, label = connected_components(matrix, directed=False)
    touched = np.unique(np.concatenate([a, b]))
    component_sizes = np.bincount(label[touched])
    component_sizes = component_sizes[component_sizes > 0]
    isolated = nodes - len(touched)
    clustering, core = _clustering_and_core(a, b) if len(a) <= config.max_networkx_edges else (None, None)
    edges = np.unique(src * np.int64(size) + dst)
    src, dst = edges // size, edges % size
    has_reverse = np.isin(dst * np.int64(size) + src, edges, assume_unique=True)
    return DensificationStep(
        edge_type=edge_type,
        pairs=len(a),
        density=len(edges) / (nodes * (nodes - 1)) if nodes > 1 else 0.0,
        reciprocity=float(has_reverse.mean()),
        reachable=reachable,
        components=len(component_sizes) + isolated,
        largest_share=float(component_sizes.max() / nodes),
        isolated_share=isolated / nodes,
        clustering=clustering,
        deepest_core=core,
    )


def _unordered_pairs(src: Codes, dst: Codes) -> tuple[Codes, Codes]:
    """Return each unordered pair of neighbours once."""
    low, high = np.minimum(src, dst), np.maximum(src, dst)
    size = np.int64(high.max() + 1)
    pairs = np.unique(low * size + high)
    return pairs // size, pairs % size


def _mean_reached(src: Codes, dst: Codes, size: int, starts: Codes) -> float:
    """Return the mean number of items that can be reached along edges from one of `starts`."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order

    graph = csr_array((np.ones(len(src), np.int8), (src, dst)), shape=(size, size))
    reached = [len(breadth_first_order(graph, start, return_predecessors=False)) - 1 for start in starts]
    return float(np.mean(reached))


def _clustering_and_core(a: Codes, b: Codes) -> tuple[float, int]:
    """Return the mean clustering coefficient, estimated with 2,000 seeded trials, and the deepest k-core."""
    import networkx as nx

    graph: Any = nx.Graph()
    graph.add_edges_from(zip(a.tolist(), b.tolist(), strict=True))
    clustering = nx.algorithms.approximation.average_clustering(graph, trials=2000, seed=7)
    return float(clustering), int(max(nx.core_number(graph).values()))


def _at_least(items_by_degree: NDArray[np.int64]) -> list[DegreePoint]:
    """Return how many items have at least n neighbours, for n = each power of two and the largest degree."""
    cumulated = np.cumsum(items_by_degree[::-1])[::-1]
    largest = len(cumulated) - 1
    points = sorted({1 << k for k in range(largest.bit_length())} | {largest} - {0})
    return [(degree, int(cumulated[degree])) for degree in points if degree >= 1]


def _find_hubs(degrees: "DataFrame", names: "DataFrame") -> dict[str, list[Hub]]:
    """Return the items with the most neighbours, by edge type."""
    hubs = {}
    for edge_type in EDGE_TYPES:
        widest = degrees.where(F.col("edge_type") == edge_type).orderBy(F.desc("degree"), "item").limit(HUBS)
        rows = widest.join(names, "item").orderBy(F.desc("degree"), "item_id").select("item_id", "degree").collect()
        if rows:
            hubs[edge_type] = [(row[0], row[1]) for row in rows]
    return hubs


def _degree_points(degrees: "DataFrame") -> dict[str, list[DegreePoint]]:
    """Return for each edge type how many items have at least n neighbours, where n runs over powers of two."""
    power = F.floor(F.log2("degree")).cast("int")
    rows = degrees.groupBy("edge_type", power.alias("power")).agg(F.count(F.lit(1))).collect()
    points_by_type: dict[str, list[DegreePoint]] = {}
    for edge_type in EDGE_TYPES:
        by_power = sorted(((row[1], row[2]) for row in rows if row[0] == edge_type), reverse=True)
        cumulated, points = 0, []
        for exponent, n in by_power:
            cumulated += n
            points.append((1 << exponent, cumulated))
        if points:
            points_by_type[edge_type] = points[::-1]
    return points_by_type
