"""The neighbourhood of an item: against a slow twin over the edge list, as a picture, and through GEXF and back."""

import random
import re
from collections import Counter
from pathlib import Path

import networkx as nx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graph_build.errors import GraphInputError
from graph_build.report.ego import ego_network, render, write_gexf


@pytest.fixture
def graph(tmp_path: Path) -> tuple[Path, list[tuple[str, str, str, float]]]:
    rng = random.Random(3)
    names = [f"i{n}" for n in range(12)]
    pairs = {
        (a, b, k) for a in names for b in names for k in ("strong_click", "swing") if a != b and rng.random() < 0.3
    }
    edges = [(a, b, k, rng.random()) for a, b, k in sorted(pairs)]
    for folder, table in {
        "full/nodes": {"item_id": names, "events": list(range(12)), "is_tail": [n < 6 for n in range(12)]},
        "full/edges": dict(
            zip(("src", "dst", "edge_type", "weight"), map(list, zip(*edges, strict=True)), strict=True)
        ),
        "tables/items": {"item_id": names[:8], "title": [f"<Shoe {n}>" for n in range(8)]},
    }.items():
        (tmp_path / folder).mkdir(parents=True)
        pq.write_table(pa.table(table), tmp_path / folder / "part.parquet")
    return tmp_path, edges


def test_the_strongest_neighbours_and_all_edges_among_them(
    graph: tuple[Path, list[tuple[str, str, str, float]]],
) -> None:
    folder, edges = graph
    strength: Counter[str] = Counter()
    for src, dst, _, weight in edges:
        if "i1" in (src, dst):
            strength[dst if src == "i1" else src] += weight
    kept = {"i1", *[name for name, _ in strength.most_common(4)]}
    found = ego_network(folder, "i1", 4)
    assert set(found.nodes) == kept
    expected = {(a, b, k): w for a, b, k, w in edges if a in kept and b in kept}
    assert {(a, b, k): edge["weight"] for a, b, k, edge in found.edges(keys=True, data=True)} == expected
    assert found.graph == {"item": "i1", "neighbours_in_all": len(strength)}
    assert found.nodes["i1"] == {"events": 1, "is_tail": True, "title": "<Shoe 1>"}


def test_the_page_stands_alone_and_is_the_same_every_time(
    graph: tuple[Path, list[tuple[str, str, str, float]]],
) -> None:
    network = ego_network(graph[0], "i1", 4)
    page = render(network)
    assert page == render(ego_network(graph[0], "i1", 4))
    assert not re.search(r"<script|src=|href=|https?://", page)
    assert page.count("<circle") == len(network)
    assert page.count("<line") == network.number_of_edges()
    assert "&lt;Shoe 1&gt;" in page


def test_gexf_comes_back(graph: tuple[Path, list[tuple[str, str, str, float]]], tmp_path: Path) -> None:
    network = ego_network(graph[0], "i1")
    write_gexf(network, tmp_path / "ego.gexf")
    back = nx.read_gexf(tmp_path / "ego.gexf")
    assert set(back.nodes) == set(network.nodes)
    assert back.number_of_edges() == network.number_of_edges()


def test_an_unknown_item_is_named_and_a_lone_one_is_drawn(
    graph: tuple[Path, list[tuple[str, str, str, float]]],
) -> None:
    folder, _ = graph
    with pytest.raises(GraphInputError, match="'nobody'"):
        ego_network(folder, "nobody")
    nodes = {"item_id": ["alone"], "events": [0], "is_tail": [True]}
    pq.write_table(pa.table(nodes), folder / "full" / "nodes" / "more.parquet")
    assert render(ego_network(folder, "alone")).count("<circle") == 1
