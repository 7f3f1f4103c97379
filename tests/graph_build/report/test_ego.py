"""Plain loops over the edges find the same neighbourhood of an item, which is shown as a page and written as GEXF."""

import random
import re
from collections import Counter
from pathlib import Path

import networkx as nx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graph_build.errors import GraphInputError
from graph_build.report.ego import HEIGHT, WIDTH, ego_network, render_ego, write_gexf
from tests.html_page import Page

# (src, dst, edge_type, weight)
Edge = tuple[str, str, str, float]


@pytest.fixture
def graph(tmp_path: Path) -> tuple[Path, list[Edge]]:
    """Return the folder and the edges of a graph with 12 items, eight of them with titles."""
    rng = random.Random(3)
    names = [f"i{n}" for n in range(12)]
    pairs = {
        (a, b, k) for a in names for b in names for k in ("strong_click", "swing") if a != b and rng.random() < 0.3
    }
    edges = [(a, b, k, rng.random()) for a, b, k in sorted(pairs)]
    columns = dict(zip(("src", "dst", "edge_type", "weight"), map(list, zip(*edges, strict=True)), strict=True))
    for folder, table in {
        "full/nodes": {"item_id": names, "events": list(range(12)), "is_tail": [n < 6 for n in range(12)]},
        "full/edges": columns,
        "tables/items": {"item_id": names[:8], "title": [f"<Shoe {n}>" for n in range(8)]},
    }.items():
        (tmp_path / folder).mkdir(parents=True)
        pq.write_table(pa.table(table), tmp_path / folder / "part.parquet")
    return tmp_path, edges


def test_the_network_has_the_strongest_neighbours_and_all_edges_among_them(graph: tuple[Path, list[Edge]]) -> None:
    folder, edges = graph
    strength: Counter[str] = Counter()
    for src, dst, _, weight in edges:
        if "i1" in (src, dst):
            strength[dst if src == "i1" else src] += weight
    shown = {"i1", *[name for name, _ in strength.most_common(4)]}
    network = ego_network(folder, "i1", 4)
    assert set(network.nodes) == shown
    expected = {(a, b, k): w for a, b, k, w in edges if a in shown and b in shown}
    assert {(a, b, k): edge["weight"] for a, b, k, edge in network.edges(keys=True, data=True)} == expected
    assert network.graph == {"item": "i1", "neighbours_in_all": len(strength)}
    assert network.nodes["i1"] == {"events": 1, "is_tail": True, "title": "<Shoe 1>"}


def test_the_page_works_offline_and_is_the_same_every_time(graph: tuple[Path, list[Edge]]) -> None:
    network = ego_network(graph[0], "i1", 4)
    page = Page(render_ego(network))
    assert page.source == render_ego(ego_network(graph[0], "i1", 4))
    assert page.is_self_contained
    assert page.source.count("<circle") == len(network)
    assert page.source.count("<line") == network.number_of_edges()
    assert f"i1 with the strongest 4 of its {network.graph['neighbours_in_all']} neighbours" in page.text


def test_the_page_lists_the_neighbours_with_the_weights_of_their_edges(graph: tuple[Path, list[Edge]]) -> None:
    folder, edges = graph
    network = ego_network(folder, "i1", 4)
    rows = [row for row in Page(render_ego(network)).rows() if row[0] in network]
    weights: dict[str, Counter[str]] = {name: Counter() for name in network if name != "i1"}
    for src, dst, edge_type, weight in edges:
        neighbour = {src, dst} - {"i1"}
        if "i1" in (src, dst) and neighbour <= set(weights):
            weights[neighbour.pop()][edge_type] += weight
    ranked = sorted(weights, key=lambda name: -weights[name].total())
    assert [row[0] for row in rows] == ranked
    for row in rows:
        for edge_type, cell in zip(("strong_click", "swing"), row[4:6], strict=True):
            expected = weights[row[0]][edge_type]
            assert cell == (f"{expected:.3g}" if expected else "")


def test_labels_do_not_overlap_and_lie_inside_the_picture(graph: tuple[Path, list[Edge]]) -> None:
    source = render_ego(ego_network(graph[0], "i1", 11))
    labels = [
        (float(x), float(y), 7 * len(text.replace("&lt;", "<").replace("&gt;", ">")) / 2)
        for x, y, text in re.findall(r'<text x="([\d.-]+)" y="([\d.-]+)"[^>]*>([^<]*)<', source)
    ]
    assert len(labels) >= 6
    assert all(half <= x + 1 and x - 1 <= WIDTH - half and 0 <= y <= HEIGHT for x, y, half in labels)
    for n, (x, y, half) in enumerate(labels):
        for x2, y2, half2 in labels[:n]:
            assert abs(y - y2) >= 14 or abs(x - x2) >= 0.9 * (half + half2)


def test_titles_are_escaped(graph: tuple[Path, list[Edge]]) -> None:
    script = "<script>alert(1)</script>"
    titles = {"item_id": ["i1", "i2"], "title": [script, "Shoe"], "category": [script, script]}
    pq.write_table(pa.table(titles), graph[0] / "tables" / "items" / "part.parquet")
    page = Page(render_ego(ego_network(graph[0], "i1", 11)))
    assert page.is_self_contained
    assert page.text.count(script) >= 3


def test_a_gexf_file_holds_the_same_nodes_and_as_many_edges(graph: tuple[Path, list[Edge]], tmp_path: Path) -> None:
    network = ego_network(graph[0], "i1")
    write_gexf(network, tmp_path / "ego.gexf")
    from_file = nx.read_gexf(tmp_path / "ego.gexf")
    assert set(from_file.nodes) == set(network.nodes)
    assert from_file.number_of_edges() == network.number_of_edges()


def test_an_unknown_item_is_named_in_the_error(graph: tuple[Path, list[Edge]]) -> None:
    with pytest.raises(GraphInputError, match="'nobody'"):
        ego_network(graph[0], "nobody")


def test_an_isolated_item_has_a_page(graph: tuple[Path, list[Edge]]) -> None:
    folder, _ = graph
    nodes = {"item_id": ["alone"], "events": [0], "is_tail": [True]}
    pq.write_table(pa.table(nodes), folder / "full" / "nodes" / "more.parquet")
    page = Page(render_ego(ego_network(folder, "alone")))
    assert page.source.count("<circle") == 1
    assert "alone with the strongest 0 of its 0 neighbours" in page.text
