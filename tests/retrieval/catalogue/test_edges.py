"""Typed edges by source row equal plain dictionaries."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.catalogue.edges import Edges
from retrieval.config import ScoreWeights
from retrieval.errors import CatalogueError

IDS = np.array([f"item{row:05d}" for row in range(12)], dtype=object)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 1000), st.lists(st.integers(0, 11), max_size=5), st.lists(st.integers(0, 11), max_size=8))
def test_types_between_equals_a_lookup_of_every_edge(
    world: SimpleNamespace, seed: int, views: list[int], results: list[int]
) -> None:
    rows = world.edge_rows(12, seed, per_item=2)
    edges = Edges.from_table(world.edge_table(rows), IDS)
    owner = [number % 2 for number in range(len(views))]
    result_owner = [number % 2 for number in range(len(results))]
    as_rows = [np.array(values, np.int64) for values in (views, owner, results, result_owner)]
    names = [edges.names(kind) for kind in edges.types_between(*as_rows).tolist()]
    for result, query, name in zip(results, result_owner, names, strict=True):
        own_views = [view for view, view_owner in zip(views, owner, strict=True) if view_owner == query]
        assert name == "+".join(kind for kind in world.TYPES if any((view, result, kind) in rows for view in own_views))


def test_neighbours_come_with_their_type_and_weight(world: SimpleNamespace) -> None:
    rows = world.edge_rows(12, 4)
    edges = Edges.from_table(world.edge_table(rows), IDS)
    dst, kind, weight = edges.neighbours(np.array([3, 0]))
    expected = [(b, name, 1.0 + number % 3) for view in (3, 0) for number, (a, b, name) in enumerate(rows) if a == view]
    actual = list(zip(dst.tolist(), [edges.type_names[t] for t in kind], weight.tolist(), strict=True))
    assert actual == expected


def test_an_edge_to_an_item_outside_the_catalogue_is_named(world: SimpleNamespace) -> None:
    table = world.edge_table([(0, 1, "swing"), (1, 99, "swing")])
    with pytest.raises(CatalogueError, match=r"edges\.dst: item 'item00099'"):
        Edges.from_table(table, IDS)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(CatalogueError, match="edge_type"):
        Edges.from_table(pa.table({"src": ["a"], "dst": ["b"], "weight": [1.0]}), IDS)


def test_a_table_without_edges_is_valid(world: SimpleNamespace) -> None:
    edges = Edges.from_table(world.edge_table([]), IDS)
    assert edges.n_rows == 12
    assert len(edges.neighbours(np.arange(12))[0]) == 0


@pytest.mark.parametrize(
    ("kinds", "direct"),
    [
        (("co_search", "strong_click", "swing"), "strong_click"),
        (("co_search", "swing"), "swing"),
        (("co_search",), None),
    ],
)
def test_direct_edges_are_strong_clicks_or_else_swing_edges(kinds: tuple[str, ...], direct: str | None) -> None:
    rows = [(0, b + 1, kind, 1.0 + b) for b, kind in enumerate(kinds)]
    table = pa.table(
        {
            "src": [IDS[a] for a, *_ in rows],
            "dst": [IDS[b] for _, b, *_ in rows],
            "edge_type": [kind for *_, kind, _ in rows],
            "weight": [weight for *_, weight in rows],
        }
    )
    edges = Edges.from_table(table, IDS, ScoreWeights(direct=0.5))
    expected = [0.5 * np.log1p(weight) if kind == direct else 0.0 for *_, kind, weight in rows]
    np.testing.assert_allclose(edges.bonus(np.arange(len(rows))), expected, rtol=1e-6)
