"""The kept in-neighbours compared with a plain Python reference, and the hop with networkx and a loop."""

from collections import defaultdict
from collections.abc import Callable, Sequence

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config import PropagationConfig
from model.encoder_input import neighbour_average
from model.graph import EDGE_TYPES, ItemGraph
from model.propagation import Neighbourhood, in_neighbours, propagate

Edge = tuple[int, int, str, float]
N = 6


def slow_in_neighbours(edges: Sequence[Edge], n: int, config: PropagationConfig) -> list[dict[int, float]]:
    """Scale the weights of each type into an item to the type's share, add them up, and keep the heaviest.

    If weights are equal, the smaller row comes first.
    """
    neighbours_of = []
    for item in range(n):
        summed: dict[int, float] = defaultdict(float)
        for kind in EDGE_TYPES:
            into = [(src, weight) for src, dst, k, weight in edges if dst == item and k == kind]
            for src, weight in into:
                summed[src] += getattr(config, kind) * weight / sum(w for _, w in into)
        ranked = sorted((pair for pair in summed.items() if pair[1] > 0), key=lambda pair: (-pair[1], pair[0]))
        neighbours_of.append(dict(ranked[: config.top_k]))
    return neighbours_of


def as_dicts(neighbourhood: Neighbourhood) -> list[dict[int, float]]:
    return [
        dict(zip(neighbourhood.neighbour[a:b].tolist(), neighbourhood.weight[a:b].tolist(), strict=True))
        for a, b in zip(neighbourhood.indptr[:-1], neighbourhood.indptr[1:], strict=True)
    ]


@st.composite
def edge_lists(draw: st.DrawFn) -> list[Edge]:
    """Draw edges whose weights are powers of two, so that ties are frequent and exact."""
    slots = [(a, b, kind) for a in range(N) for b in range(N) for kind in EDGE_TYPES if a != b]
    chosen = draw(st.lists(st.sampled_from(slots), unique=True, max_size=40))
    return [(a, b, kind, draw(st.sampled_from([0.5, 1.0, 2.0]))) for a, b, kind in chosen]


@settings(max_examples=150, deadline=None)
@given(edges=edge_lists(), top_k=st.integers(1, 4), swing=st.sampled_from([0.0, 0.25, 1.0]))
def test_kept_neighbours_equal_the_plain_reference(
    make_graph: Callable[..., ItemGraph], edges: list[Edge], top_k: int, swing: float
) -> None:
    config = PropagationConfig(top_k=top_k, swing=swing)
    neighbourhood = in_neighbours(make_graph(N, edges), config)
    expected = slow_in_neighbours(edges, N, config)
    for item, (weights, expected_weights) in enumerate(zip(as_dicts(neighbourhood), expected, strict=True)):
        # Floats added in another order may break a tie in another way. So compare the weights, and then only the items
        # that are clearly above the cut.
        assert sorted(weights.values()) == pytest.approx(sorted(expected_weights.values()), rel=1e-6)
        last = min(expected_weights.values(), default=0.0)
        clear = {src for src, weight in expected_weights.items() if weight > last * (1 + 1e-6)}
        assert clear <= set(weights)
        assert neighbourhood.total[item] == pytest.approx(sum(expected_weights.values()), rel=1e-6)
        assert list(weights) == sorted(weights)


def test_each_type_is_scaled_to_its_share_within_an_item(make_graph: Callable[..., ItemGraph]) -> None:
    graph = make_graph(
        4, [(0, 3, "strong_click", 30.0), (1, 3, "strong_click", 10.0), (1, 3, "swing", 0.01), (2, 3, "co_search", 7.0)]
    )
    neighbourhood = in_neighbours(graph, PropagationConfig(strong_click=1.0, swing=0.5, co_search=0.25))
    assert as_dicts(neighbourhood)[3] == pytest.approx({0: 0.75, 1: 0.25 + 0.5, 2: 0.25})
    assert neighbourhood.total[3] == pytest.approx(1.75)


def test_equal_weights_keep_the_smaller_rows(make_graph: Callable[..., ItemGraph]) -> None:
    graph = make_graph(5, [(src, 0, "swing", 1.0) for src in (4, 2, 3, 1)])
    assert list(as_dicts(in_neighbours(graph, PropagationConfig(top_k=2)))[0]) == [1, 2]


def test_top_k_cuts_after_the_types_are_added_up(make_graph: Callable[..., ItemGraph]) -> None:
    """Item 1 is second by strong clicks and second by Swing, but first by their sum."""
    graph = make_graph(
        4,
        [
            *[(0, 3, "strong_click", 6.0), (1, 3, "strong_click", 4.0)],
            *[(2, 3, "swing", 6.0), (1, 3, "swing", 4.0)],
        ],
    )
    neighbourhood = in_neighbours(graph, PropagationConfig(top_k=1, strong_click=1.0, swing=1.0))
    assert as_dicts(neighbourhood)[3] == pytest.approx({1: 0.8})


def test_a_type_of_share_zero_is_left_out(make_graph: Callable[..., ItemGraph]) -> None:
    graph = make_graph(3, [(0, 2, "co_search", 1.0), (1, 2, "swing", 1.0)])
    assert as_dicts(in_neighbours(graph, PropagationConfig(co_search=0)))[2] == pytest.approx({1: 0.3})


def test_a_graph_without_edges_has_no_neighbours(make_graph: Callable[..., ItemGraph]) -> None:
    neighbourhood = in_neighbours(make_graph(3), PropagationConfig())
    assert neighbourhood.indptr.tolist() == [0, 0, 0, 0]
    assert neighbourhood.total.tolist() == [0, 0, 0]
    assert neighbourhood.edge_weights(np.array([0, 1]), np.array([1, 2])).tolist() == [0, 0]


@settings(max_examples=60, deadline=None)
@given(edges=edge_lists(), seed=st.integers(0, 99))
def test_the_average_is_that_of_a_weighted_directed_graph(
    make_graph: Callable[..., ItemGraph], edges: list[Edge], seed: int
) -> None:
    """The reference is the weighted average over `pred` in networkx; all edges have one type, whose share is 1."""
    edges = [edge for edge in edges if edge[2] == "swing"]
    oracle = nx.DiGraph()
    oracle.add_nodes_from(range(N))
    oracle.add_weighted_edges_from([(src, dst, weight) for src, dst, _, weight in edges])
    table = np.random.default_rng(seed).standard_normal((N, 3)).astype(np.float32)

    neighbourhood = in_neighbours(make_graph(N, edges), PropagationConfig(swing=1.0))
    sums = propagate(
        *(torch.from_numpy(a) for a in (neighbourhood.indptr, neighbourhood.neighbour, neighbourhood.weight, table))
    )
    average = neighbour_average(sums, torch.from_numpy(neighbourhood.total)).numpy()

    for item in range(N):
        into = oracle.pred[item]
        degree = oracle.in_degree(item, weight="weight")
        expected = sum(edge["weight"] * table[src] for src, edge in into.items()) / degree if into else np.zeros(3)
        np.testing.assert_allclose(average[item], expected, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(0, 4), min_size=1, max_size=6), extra=st.integers(0, 3), seed=st.integers(0, 99))
def test_propagate_equals_a_loop(lengths: list[int], extra: int, seed: int) -> None:
    """This holds also with more rows than items, as with group means, and if a neighbour occurs twice."""
    rng = np.random.default_rng(seed)
    rows = len(lengths) + extra
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    neighbour = rng.integers(0, rows, indptr[-1])
    weight = rng.uniform(0, 2, indptr[-1]).astype(np.float32)
    table = rng.standard_normal((rows, 4)).astype(np.float32)
    expected = np.zeros((len(lengths), 4))
    for item in range(len(lengths)):
        for at in range(indptr[item], indptr[item + 1]):
            expected[item] += weight[at] * table[neighbour[at]]
    out = propagate(*(torch.from_numpy(a) for a in (indptr, neighbour, weight, table)))
    np.testing.assert_allclose(out.numpy(), expected, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(edges=edge_lists(), top_k=st.integers(1, 3))
def test_edge_weights_look_up_kept_edges_and_nothing_else(
    make_graph: Callable[..., ItemGraph], edges: list[Edge], top_k: int
) -> None:
    neighbourhood = in_neighbours(make_graph(N, edges), PropagationConfig(top_k=top_k))
    dst, src = (a.ravel() for a in np.meshgrid(np.arange(N), np.arange(N), indexing="ij"))
    neighbours_of = as_dicts(neighbourhood)
    expected = [neighbours_of[d].get(s, 0.0) for d, s in zip(dst.tolist(), src.tolist(), strict=True)]
    assert neighbourhood.edge_weights(dst, src).tolist() == expected
