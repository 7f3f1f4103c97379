"""An item and its neighbourhood in a finished graph: as a networkx graph, as a page, and as a GEXF file.

The tables are read with Arrow, so that looking an item up needs no Spark.
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from graph_build.errors import GraphInputError
from graph_build.report.pages import render_page
from graph_build.report.terms import EDGE_LABELS, GRAPH_TERMS

EDGE_COLUMNS = ("src", "dst", "edge_type", "weight")
WIDTH, HEIGHT = 900, 640
MARGIN_X, MARGIN_Y = 110, 40
LANE = 4  # pixels between lines that join the same items
LONGEST_LABEL = 28  # characters
CHARACTER_WIDTH, LINE_HEIGHT = 6.6, 14  # of a label


def ego_network(graph: Path, item: str, neighbours: int = 30) -> Any:
    """Return a `networkx.MultiDiGraph` of the item, its strongest neighbours, and the edges among all of them.

    Nodes carry `events`, `is_tail` and, where they are known, `title` and `category`. Edges carry `edge_type` and
    `weight`.

    Args:
        graph: the `graph/` folder of a version.
        item: the item_id of the item.
        neighbours: how many neighbours to show. They are ranked by the sum of the weights of their edges with the item;
            ties go to the smaller item_id.

    Raises:
        GraphInputError: the graph has no such item.
    """
    import networkx as nx

    nodes = pq.read_table(graph / "full" / "nodes", filters=pc.field("item_id") == item)
    if nodes.num_rows == 0:
        raise GraphInputError(f"the graph has no item {item!r}")
    edges = ds.dataset(graph / "full" / "edges")
    touching = edges.to_table(columns=list(EDGE_COLUMNS), filter=(pc.field("src") == item) | (pc.field("dst") == item))
    strength: dict[str, float] = {}
    for edge in touching.to_pylist():
        neighbour = edge["dst"] if edge["src"] == item else edge["src"]
        strength[neighbour] = strength.get(neighbour, 0.0) + edge["weight"]
    strongest = sorted(strength, key=lambda name: (-strength[name], name))[:neighbours]
    ids = pa.array(sorted({item, *strongest}))
    among = edges.to_table(columns=list(EDGE_COLUMNS), filter=pc.field("src").isin(ids) & pc.field("dst").isin(ids))
    network = nx.MultiDiGraph(item=item, neighbours_in_all=len(strength))
    for name, facts in _read_facts(graph, ids).items():
        network.add_node(name, **facts)
    for edge in sorted(among.to_pylist(), key=lambda edge: (edge["src"], edge["dst"], edge["edge_type"])):
        src, dst, edge_type = edge["src"], edge["dst"], edge["edge_type"]
        network.add_edge(src, dst, key=edge_type, edge_type=edge_type, weight=edge["weight"])
    return network


def write_gexf(network: Any, path: Path) -> None:
    """Write the network as GEXF, for Gephi and similar programs.

    Args:
        network: the result of `ego_network`.
        path: the file to write.
    """
    import networkx as nx

    nx.write_gexf(network, path)


def render_ego(network: Any) -> str:
    """Render the network of `ego_network` as one self-contained page; positions are the same every time."""
    item = network.graph["item"]
    positions = _positions(network)
    return render_page(
        "ego.html.j2",
        heading=network.nodes[item].get("title") or item,
        item=item,
        total=network.graph["neighbours_in_all"],
        width=WIDTH,
        height=HEIGHT,
        edges=list(_edge_lines(network, positions)),
        nodes=_node_dots(network, positions),
        neighbours=_neighbour_rows(network),
        edge_types=EDGE_LABELS,
        labels=EDGE_LABELS,
        terms={name: GRAPH_TERMS[name] for name in (*EDGE_LABELS.values(), "tail")},
    )


@dataclass
class _Dot:
    """An item in the picture; its label has no position if there was no free place for the label."""

    x: int
    y: int
    label: str
    about: str
    is_center: bool
    label_x: int | None = None
    label_y: int | None = None


def _read_facts(graph: Path, ids: pa.Array) -> dict[str, dict[str, Any]]:
    """Return item_id → events, is_tail and, where the catalogue has them, title and category."""
    chosen = pc.field("item_id").isin(ids)
    nodes = pq.read_table(graph / "full" / "nodes", columns=["item_id", "events", "is_tail"], filters=chosen)
    facts = {row.pop("item_id"): row for row in nodes.sort_by("item_id").to_pylist()}
    items = graph / "tables" / "items"
    if items.exists():
        catalogue = ds.dataset(items)
        columns = [name for name in ("item_id", "title", "category") if name in catalogue.schema.names]
        for row in catalogue.to_table(columns=columns, filter=chosen).to_pylist():
            facts[row.pop("item_id")].update({key: value for key, value in row.items() if value is not None})
    return facts


def _positions(network: Any) -> dict[str, tuple[int, int]]:
    """Return item_id → pixel, with the item in the middle."""
    import networkx as nx

    item = network.graph["item"]
    layout = nx.spring_layout(
        nx.Graph(network), seed=7, k=2.2 / max(len(network), 2) ** 0.5, pos={item: (0, 0)}, fixed=[item]
    )
    farthest = max((abs(value) for position in layout.values() for value in position), default=1.0) or 1.0
    half_x, half_y = WIDTH / 2 - MARGIN_X, HEIGHT / 2 - MARGIN_Y
    return {
        name: (round(WIDTH / 2 + x / farthest * half_x), round(HEIGHT / 2 + y / farthest * half_y))
        for name, (x, y) in layout.items()
    }


def _edge_lines(network: Any, positions: dict[str, tuple[int, int]]) -> Iterator[dict[str, Any]]:
    """Yield the lines from node to node; lines from or to the item itself stand out."""
    item = network.graph["item"]
    heaviest = max((edge["weight"] for _, _, edge in network.edges(data=True)), default=1.0)
    for src, dst, edge in network.edges(data=True):
        (x1, y1), (x2, y2) = positions[src], positions[dst]
        shift_x, shift_y = _shift(positions, src, dst, list(EDGE_LABELS).index(edge["edge_type"]) - 1)
        share = edge["weight"] / heaviest
        opacity = 0.2 + 0.6 * share if item in (src, dst) else 0.12
        yield {
            **{"src": src, "dst": dst, "edge_type": edge["edge_type"], "weight": f"{edge['weight']:.3g}"},
            **{"x1": x1 + shift_x, "y1": y1 + shift_y, "x2": x2 + shift_x, "y2": y2 + shift_y},
            **{"width": f"{1 + 4 * share:.1f}", "opacity": f"{opacity:.2f}"},
        }


def _shift(positions: dict[str, tuple[int, int]], src: str, dst: str, lane: int) -> tuple[int, int]:
    """Return how far a line is moved sideways, so that edges of several types between two items lie side by side."""
    (x1, y1), (x2, y2) = positions[min(src, dst)], positions[max(src, dst)]
    length = math.hypot(x2 - x1, y2 - y1) or 1.0
    return round((y1 - y2) / length * lane * LANE), round((x2 - x1) / length * lane * LANE)


def _node_dots(network: Any, positions: dict[str, tuple[int, int]]) -> list[_Dot]:
    dots = {}
    for name, facts in network.nodes(data=True):
        title = facts.get("title") or name
        label = title if len(title) <= LONGEST_LABEL else title[: LONGEST_LABEL - 1] + "…"
        about = ", ".join(str(facts[key]) for key in ("title", "category") if facts.get(key))
        about = f"{name}: {about} ({facts['events']} events{', tail' if facts['is_tail'] else ''})"
        dots[name] = _Dot(*positions[name], label, about, name == network.graph["item"])
    strongest_first = [network.graph["item"], *(row["item"] for row in _neighbour_rows(network))]
    _place_labels([dots[name] for name in strongest_first])
    return list(dots.values())


def _place_labels(dots: list[_Dot]) -> None:
    """Put each label above or below its dot; leave it out if it would cover a dot or another label in both places."""
    taken = [(float(dot.x), dot.y + 4, 5.0) for dot in dots]  # center x, base line y, half a width
    for dot in dots:
        half = len(dot.label) * CHARACTER_WIDTH / 2
        x = round(min(max(dot.x, half), WIDTH - half))
        for y in (dot.y - 12, dot.y + 22):
            if all(abs(x - x2) >= half + half2 or abs(y - y2) >= LINE_HEIGHT for x2, y2, half2 in taken):
                taken.append((x, y, half))
                dot.label_x, dot.label_y = x, y
                break


def _neighbour_rows(network: Any) -> list[dict[str, Any]]:
    """Return the neighbours, strongest first, each with the weights of its edges with the item by edge type."""
    item = network.graph["item"]
    weights: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for src, dst, edge in network.edges(data=True):
        if item in (src, dst):
            weights[dst if src == item else src][edge["edge_type"]] += edge["weight"]
    ranked = sorted(weights, key=lambda name: (-sum(weights[name].values()), name))
    return [{"item": name, "facts": network.nodes[name], "weights": weights[name]} for name in ranked]
