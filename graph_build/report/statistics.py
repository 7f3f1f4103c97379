"""Figures of a finished graph for its report: density, components and degrees, each within its cap.

Only a graph under `max_component_edges` is brought to the driver; of a larger one Spark counts the degrees.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import functions as F

from graph_build.config import ReportConfig
from graph_build.edges.combine import EDGE_TYPES
from graph_build.report.category_mixing import Mixing, measure_mixing

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

Codes = NDArray[np.int64]

REACH_SAMPLE = 32
HUBS = 8


@dataclass(frozen=True)
class Step:
    """The graph after one edge type was added. `components` counts lone items too; shares are of all items.

    reciprocity: share of the edges whose reverse is an edge too. reachable: mean share of all items that can be reached
    along edges from one of them (a seeded sample).
    """

    added: str
    pairs: int
    density: float
    reciprocity: float
    reachable: float
    components: int | None
    largest_share: float | None
    alone_share: float | None
    clustering: float | None = None
    core: int | None = None


@dataclass(frozen=True)
class Figures:
    """What a graph looks like.

    degrees: edge type → [(degree, items with at least that degree)]. hubs: edge type → [(item_id, degree)], the widest
    first. isolated: items without any edge. mean_degree: distinct neighbours of an item in either direction, on
    average; None where the graph is above `max_component_edges`. notes: what was left out, and why.
    """

    steps: list[Step]
    degrees: dict[str, list[tuple[int, int]]]
    hubs: dict[str, list[tuple[str, int]]]
    isolated: int
    mean_degree: float | None
    notes: list[str]
    mixing: Mixing | None = None


def measure(
    pairs: "DataFrame",
    nodes: int,
    counts: dict[str, int],
    names: "DataFrame",
    catalogue: "DataFrame | None",
    config: ReportConfig,
) -> Figures:
    """Measures the whole graph.

    Args:
        pairs: typed pairs (`edges`), read more than once. nodes: how many items there are.
        counts: edges by type. names: item (hash), item_id. catalogue: item_id, category; None without categories.
    """
    total = sum(counts.values())
    up, down = F.col("full_up") > 0, F.col("full_down") > 0
    here = pairs.where(up | down)
    mixing = None
    if catalogue is not None:
        mixing = measure_mixing(pairs, total // 2, names.join(catalogue, "item_id").select("item", "category"))
    ends = here.select("edge_type", F.explode(F.array("low", "high")).alias("item"))
    degree = ends.groupBy("edge_type", "item").agg(F.count(F.lit(1)).alias("degree")).persist()
    hubs = _hubs(degree, names)
    if total > config.max_component_edges:
        note = (
            f"Components and density after each step are left out: {total:,} edges are more than "
            f"report.max_component_edges = {config.max_component_edges:,}."
        )
        isolated = nodes - degree.select("item").distinct().count()
        points = _degrees_in_spark(degree)
        degree.unpersist()
        return Figures([], points, hubs, isolated, None, [note], mixing)
    degree.unpersist()
    number = F.array_position(F.array(*[F.lit(kind) for kind in EDGE_TYPES]), F.col("edge_type")).cast("int")
    table = here.select("low", "high", number.alias("kind"), up.alias("up"), down.alias("down")).toArrow()
    kinds = table["kind"].to_numpy()
    codes = np.concatenate([table["low"].to_numpy(), table["high"].to_numpy()])
    dense = np.unique(codes, return_inverse=True)[1].astype(np.int64)
    low, high = dense[: len(kinds)], dense[len(kinds) :]
    ways = np.stack([table["up"].to_numpy(), table["down"].to_numpy()])
    steps: list[Step] = []
    degrees: dict[str, list[tuple[int, int]]] = {}
    notes: list[str] = []
    sofar = np.zeros(len(kinds), np.bool_)
    linked = int(dense.max()) + 1 if len(dense) else 0  # items with any edge, numbered from 0
    starts = np.random.default_rng(7).permutation(linked)[:REACH_SAMPLE]
    for place, kind in enumerate(EDGE_TYPES, 1):
        mine = kinds == place
        if not mine.any():
            continue
        sofar |= mine
        src = np.concatenate([low[sofar & ways[0]], high[sofar & ways[1]]])
        dst = np.concatenate([high[sofar & ways[0]], low[sofar & ways[1]]])
        reached = _reached(src, dst, linked, starts) * linked / nodes
        steps.append(_step(kind, src, dst, nodes, reached / nodes, config))
        degrees[kind] = _at_least(np.bincount(np.bincount(np.concatenate([low[mine], high[mine]]))))
    if any(step.clustering is None for step in steps):
        notes.append(
            "Clustering and cores are left out of steps with more than "
            f"report.max_networkx_edges = {config.max_networkx_edges:,} pairs."
        )
    mean_degree = 2 * steps[-1].pairs / nodes if steps else 0.0
    return Figures(steps, degrees, hubs, nodes - linked, mean_degree, notes, mixing)


def _step(added: str, src: Codes, dst: Codes, nodes: int, reachable: float, config: ReportConfig) -> Step:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    a, b = _neighbours(src, dst)
    size = int(max(src.max(), dst.max())) + 1
    graph = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(size, size))
    _, label = connected_components(graph, directed=False)
    touched = np.unique(np.concatenate([a, b]))
    sizes = np.bincount(label[touched])
    sizes = sizes[sizes > 0]
    alone = nodes - len(touched)
    clustering, core = _with_networkx(a, b) if len(a) <= config.max_networkx_edges else (None, None)
    edges = np.unique(src * np.int64(size) + dst)
    src, dst = edges // size, edges % size
    reverse = np.isin(dst * np.int64(size) + src, edges, assume_unique=True)
    return Step(
        added,
        len(a),
        len(edges) / (nodes * (nodes - 1)) if nodes > 1 else 0.0,
        float(reverse.mean()),
        reachable,
        len(sizes) + alone,
        float(sizes.max() / nodes),
        alone / nodes,
        clustering,
        core,
    )


def _reached(src: Codes, dst: Codes, size: int, starts: Codes) -> float:
    """How many items can be reached along edges from one of `starts`, on average."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order

    graph = csr_array((np.ones(len(src), np.int8), (src, dst)), shape=(size, size))
    reached = [len(breadth_first_order(graph, start, return_predecessors=False)) - 1 for start in starts]
    return float(np.mean(reached))


def _hubs(degree: "DataFrame", names: "DataFrame") -> dict[str, list[tuple[str, int]]]:
    """The items with most neighbours, by edge type. `degree`: edge_type, item, degree."""
    found = {}
    for kind in EDGE_TYPES:
        widest = degree.where(F.col("edge_type") == kind).orderBy(F.desc("degree"), "item").limit(HUBS)
        rows = widest.join(names, "item").orderBy(F.desc("degree"), "item_id").select("item_id", "degree").collect()
        if rows:
            found[kind] = [(row[0], row[1]) for row in rows]
    return found


def _with_networkx(a: Codes, b: Codes) -> tuple[float, int]:
    """Mean clustering (a seeded sample of 2,000 items) and the deepest k-core."""
    import networkx as nx

    graph: Any = nx.Graph()
    graph.add_edges_from(zip(a.tolist(), b.tolist(), strict=True))
    clustering = nx.algorithms.approximation.average_clustering(graph, trials=2000, seed=7)
    return float(clustering), int(max(nx.core_number(graph).values()))


def _neighbours(src: Codes, dst: Codes) -> tuple[Codes, Codes]:
    """Each unordered pair of neighbours once."""
    low, high = np.minimum(src, dst), np.maximum(src, dst)
    size = np.int64(high.max() + 1)
    pairs = np.unique(low * size + high)
    return pairs // size, pairs % size


def _at_least(items_by_degree: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Items by exact degree → (degree, items of at least it) at the powers of two and the largest degree."""
    tail = np.cumsum(items_by_degree[::-1])[::-1]
    top = len(tail) - 1
    marks = sorted({1 << k for k in range(top.bit_length())} | {top} - {0})
    return [(mark, int(tail[mark])) for mark in marks if mark >= 1]


def _degrees_in_spark(degree: "DataFrame") -> dict[str, list[tuple[int, int]]]:
    power = F.floor(F.log2("degree")).cast("int")
    rows = degree.groupBy("edge_type", power.alias("power")).agg(F.count(F.lit(1))).collect()
    found: dict[str, list[tuple[int, int]]] = {}
    for kind in EDGE_TYPES:
        by_power = sorted(((row[1], row[2]) for row in rows if row[0] == kind), reverse=True)
        running, points = 0, []
        for exponent, n in by_power:
            running += n
            points.append((1 << exponent, running))
        if points:
            found[kind] = points[::-1]
    return found
