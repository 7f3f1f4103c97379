"""The statistics of a graph equal those of networkx and of a plain count."""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import networkx as nx
import pytest

from graph_build.config import ReportConfig
from graph_build.edges.combine import EDGE_TYPES, PAIRS
from graph_build.report import category_mixing, measure
from graph_build.report.statistics import GraphStatistics

NODES = 30
# Edge type → (low, high, weight low → high, weight high → low).
Pairs = dict[str, list[tuple[int, int, int, int]]]
Measure = Callable[..., GraphStatistics]


def random_pairs(seed: int) -> Pairs:
    """Return up to 25 pairs of each type; items 25 to 29 have none, and a pair without a weight is no edge."""
    rng = random.Random(seed)
    pairs = {}
    for edge_type in EDGE_TYPES:
        ends = sorted({tuple(sorted(rng.sample(range(25), 2))) for _ in range(25)})
        pairs[edge_type] = [(low, high, rng.randrange(3), rng.randrange(3)) for low, high in ends]
    return pairs


@pytest.fixture
def measured(spark: Any) -> Measure:
    def run(pairs: Pairs, **settings: int) -> GraphStatistics:
        rows = [(edge_type, *pair, 1, 1) for edge_type in pairs for pair in pairs[edge_type]]
        columns = ", ".join(f"{name} bigint" for name in PAIRS)
        frame = spark.createDataFrame(rows, f"edge_type string, {columns}")
        names = spark.createDataFrame([(n, f"i{n:02}") for n in range(NODES)], "item bigint, item_id string")
        category = "case when item_id < 'i10' then 'Shoes > Men' when item_id < 'i20' then 'Hats' end as category"
        catalogue = names.selectExpr("item_id", category)
        counts = {name: sum((up > 0) + (down > 0) for _, _, up, down in pairs[name]) for name in pairs}
        return measure.measure_graph(frame, NODES, counts, names, catalogue, ReportConfig(**settings))

    return run


def directed_graph(pairs: Pairs, edge_types: tuple[str, ...]) -> nx.DiGraph:
    graph: nx.DiGraph = nx.DiGraph()
    graph.add_nodes_from(range(NODES))
    for edge_type in edge_types:
        for low, high, up, down in pairs[edge_type]:
            graph.add_edges_from([(low, high)] * (up > 0) + [(high, low)] * (down > 0))
    return graph


@pytest.mark.parametrize("seed", [1, 2])
def test_each_step_equals_networkx(measured: Measure, seed: int) -> None:
    pairs = random_pairs(seed)
    steps = measured(pairs).steps
    assert len(steps) == len(EDGE_TYPES)
    for n, step in enumerate(steps, 1):
        graph = directed_graph(pairs, EDGE_TYPES[:n])
        components = [len(part) for part in nx.connected_components(graph.to_undirected())]
        assert (step.edge_type, step.pairs) == (EDGE_TYPES[n - 1], graph.to_undirected().number_of_edges())
        assert step.density == pytest.approx(nx.density(graph))
        assert step.reciprocity == pytest.approx(nx.overall_reciprocity(graph))
        reached = [len(nx.descendants(graph, node)) for node in graph]
        assert step.reachable == pytest.approx(sum(reached) / NODES / NODES)
        assert (step.components, step.largest_share) == (len(components), pytest.approx(max(components) / NODES))
        assert step.isolated_share == pytest.approx(len(list(nx.isolates(graph))) / NODES)
        assert step.deepest_core == max(nx.core_number(graph.to_undirected()).values())


@pytest.mark.parametrize("most_edges", [5_000_000, 0], ids=["in memory", "in Spark"])
def test_isolated_items_and_the_mean_degree_count_each_neighbour_once(measured: Measure, most_edges: int) -> None:
    pairs = random_pairs(3)
    statistics = measured(pairs, max_component_edges=most_edges)
    graph = directed_graph(pairs, EDGE_TYPES).to_undirected()
    assert statistics.isolated == len(list(nx.isolates(graph)))
    mean = sum(degree for _, degree in graph.degree) / NODES
    assert statistics.mean_degree == (pytest.approx(mean) if most_edges else None)


def test_a_graph_without_edges_has_only_isolated_items(measured: Measure) -> None:
    statistics = measured({"swing": [(1, 2, 0, 0)]})
    assert (statistics.isolated, statistics.mean_degree, statistics.degrees) == (NODES, 0.0, {})


@pytest.mark.parametrize("most_edges", [5_000_000, 0], ids=["in memory", "in Spark"])
def test_degrees_and_hubs_count_neighbours(measured: Measure, most_edges: int) -> None:
    pairs = random_pairs(3)
    statistics = measured(pairs, max_component_edges=most_edges)
    for edge_type in EDGE_TYPES:
        degree = Counter(end for low, high, up, down in pairs[edge_type] if up or down for end in (low, high))
        widest = sorted(degree, key=lambda node: (-degree[node], node))[: measure.HUBS]
        assert [count for _, count in statistics.hubs[edge_type]] == [degree[node] for node in widest]
        assert all(count == degree[int(item[1:])] for item, count in statistics.hubs[edge_type])
        points = statistics.degrees[edge_type]
        assert points[0] == (1, len(degree))
        assert all(n == sum(d >= least for d in degree.values()) for least, n in points)
    assert bool(statistics.steps) == (most_edges > 0)


def test_mixing_counts_pairs_by_top_category(measured: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = random_pairs(4)
    mixing = measured(pairs).mixing
    assert mixing is not None
    ends: Counter[tuple[int, int]] = Counter()
    for low, high, up, down in (pair for edge_type in EDGE_TYPES for pair in pairs[edge_type]):
        if (up or down) and high < 20:
            for a, b in ((low // 10, high // 10), (high // 10, low // 10)):
                ends[a, b] += 1
    numbers = [mixing.categories.index(name) for name in ("Shoes", "Hats")]
    assert [[mixing.counts[i][j] for j in numbers] for i in numbers] == [[ends[a, b] for b in (0, 1)] for a in (0, 1)]
    total = sum(ends.values())
    assert mixing.pairs == total // 2
    assert mixing.within == pytest.approx((ends[0, 0] + ends[1, 1]) / total)
    shares = [(ends[a, 0] + ends[a, 1]) / total for a in (0, 1)]
    assert mixing.expected == pytest.approx(sum(share**2 for share in shares))
    monkeypatch.setattr(category_mixing, "SAMPLE_PAIRS", 10)
    sampled = measured(pairs).mixing
    assert sampled is not None
    assert 0 < sampled.pairs < mixing.pairs
