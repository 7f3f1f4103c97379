"""The figures of the report against networkx and plain counting."""

import random
from collections import Counter
from typing import Any

import networkx as nx
import pytest

from graph_build.config import ReportConfig
from graph_build.edges import combine
from graph_build.edges.combine import EDGE_TYPES
from graph_build.report import category_mixing, statistics

NODES = 30
Edges = dict[str, list[tuple[int, int, int, int]]]


def random_pairs(seed: int) -> Edges:
    """Pairs of each type: low, high, and the weights both ways; items 25 to 29 have none."""
    rng = random.Random(seed)
    found = {}
    for kind in EDGE_TYPES:
        pairs = sorted({tuple(sorted(rng.sample(range(25), 2))) for _ in range(25)})
        found[kind] = [(low, high, rng.randrange(3), rng.randrange(3)) for low, high in pairs]
    return found


@pytest.fixture
def measured(spark: Any) -> Any:
    def run(pairs: Edges, **settings: int) -> statistics.Figures:
        rows = [(kind, *pair, 1, 1) for kind, found in pairs.items() for pair in found]
        numbers = ", ".join(f"{name} bigint" for name in combine.PAIRS)
        frame = spark.createDataFrame(rows, f"edge_type string, {numbers}")
        names = spark.createDataFrame([(n, f"i{n:02}") for n in range(NODES)], "item bigint, item_id string")
        category = "case when item_id < 'i10' then 'Shoes > Men' when item_id < 'i20' then 'Hats' end as category"
        catalogue = names.selectExpr("item_id", category)
        counts = {kind: sum((up > 0) + (down > 0) for _, _, up, down in found) for kind, found in pairs.items()}
        return statistics.measure(frame, NODES, counts, names, catalogue, ReportConfig(**settings))

    return run


def directed(pairs: Edges, kinds: tuple[str, ...]) -> nx.DiGraph:
    graph: nx.DiGraph = nx.DiGraph()
    graph.add_nodes_from(range(NODES))
    for kind in kinds:
        for low, high, up, down in pairs[kind]:
            graph.add_edges_from([(low, high)] * (up > 0) + [(high, low)] * (down > 0))
    return graph


@pytest.mark.parametrize("seed", [1, 2])
def test_each_step_equals_networkx(measured: Any, seed: int) -> None:
    pairs = random_pairs(seed)
    found = measured(pairs)
    for n, step in enumerate(found.steps, 1):
        graph = directed(pairs, EDGE_TYPES[:n])
        parts = [len(part) for part in nx.connected_components(graph.to_undirected())]
        assert (step.added, step.pairs) == (EDGE_TYPES[n - 1], graph.to_undirected().number_of_edges())
        assert step.density == pytest.approx(nx.density(graph))
        assert step.reciprocity == pytest.approx(nx.overall_reciprocity(graph))
        reached = [len(nx.descendants(graph, node)) for node in graph]
        assert step.reachable == pytest.approx(sum(reached) / NODES / NODES)
        assert (step.components, step.largest_share) == (len(parts), pytest.approx(max(parts) / NODES))
        assert step.alone_share == pytest.approx(len(list(nx.isolates(graph))) / NODES)
        assert step.core == max(nx.core_number(graph.to_undirected()).values())


@pytest.mark.parametrize("most", [5_000_000, 0], ids=["in memory", "in Spark"])
def test_degrees_and_hubs_count_neighbours(measured: Any, most: int) -> None:
    pairs = random_pairs(3)
    found = measured(pairs, max_component_edges=most)
    for kind in EDGE_TYPES:
        degree = Counter(end for low, high, up, down in pairs[kind] if up or down for end in (low, high))
        top = sorted(degree, key=lambda node: (-degree[node], node))[: statistics.HUBS]
        assert [count for _, count in found.hubs[kind]] == [degree[node] for node in top]
        assert all(count == degree[int(item[1:])] for item, count in found.hubs[kind])
        assert all(n == sum(d >= mark for d in degree.values()) for mark, n in found.degrees[kind])
    assert bool(found.steps) == (most > 0)
    graph = directed(pairs, EDGE_TYPES).to_undirected()
    assert found.isolated == nx.number_of_isolates(graph)
    mean = sum(degree for _, degree in graph.degree()) / NODES
    assert found.mean_degree == (pytest.approx(mean) if most else None)


def test_mixing_counts_pairs_by_top_category(measured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = random_pairs(4)
    found = measured(pairs).mixing
    expected = Counter()
    for low, high, up, down in (pair for kind in EDGE_TYPES for pair in pairs[kind]):
        if (up or down) and high < 20:
            for a, b in ((low // 10, high // 10), (high // 10, low // 10)):
                expected[a, b] += 1
    places = [found.categories.index(name) for name in ("Shoes", "Hats")]
    assert [[found.counts[i][j] for j in places] for i in places] == [[expected[a, b] for b in (0, 1)] for a in (0, 1)]
    total = sum(expected.values())
    assert found.pairs == total // 2
    assert found.within == pytest.approx((expected[0, 0] + expected[1, 1]) / total)
    shares = [(expected[a, 0] + expected[a, 1]) / total for a in (0, 1)]
    assert found.expected == pytest.approx(sum(share**2 for share in shares))
    monkeypatch.setattr(category_mixing, "SAMPLE_PAIRS", 10)
    assert 0 < measured(pairs).mixing.pairs < found.pairs
