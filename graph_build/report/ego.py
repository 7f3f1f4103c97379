"""An item and its neighbourhood in the finished graph, as a networkx graph, a picture and a GEXF file.

Reads the tables with Arrow alone: whoever looks an item up needs no Spark.
"""

from html import escape
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from graph_build.errors import GraphInputError
from graph_build.report.html import COLOURS, LABELS, STYLE

EDGE = ("src", "dst", "edge_type", "weight")
SIZE = (900, 640)
LONGEST_LABEL = 28  # characters


def ego_network(graph: Path, item: str, neighbours: int = 30) -> Any:
    """A `networkx.MultiDiGraph` of the item, its strongest neighbours, and the edges among all of them.

    Nodes carry `title`, `category`, `events` and `is_tail` where known, edges `edge_type` and `weight`.

    Args:
        graph: the `graph/` folder of a version.
        neighbours: how many, by the sum of their edges' weights with the item, ties by item_id.

    Raises:
        GraphInputError: the graph has no such item.
    """
    import networkx as nx

    nodes = pq.read_table(graph / "full" / "nodes", filters=pc.field("item_id") == item)
    if nodes.num_rows == 0:
        raise GraphInputError(f"the graph has no item {item!r}")
    edges = ds.dataset(graph / "full" / "edges")
    mine = edges.to_table(columns=list(EDGE), filter=(pc.field("src") == item) | (pc.field("dst") == item)).to_pylist()
    strength: dict[str, float] = {}
    for edge in mine:
        other = edge["dst"] if edge["src"] == item else edge["src"]
        strength[other] = strength.get(other, 0.0) + edge["weight"]
    kept = {item, *sorted(strength, key=lambda other: (-strength[other], other))[:neighbours]}
    ids = pa.array(sorted(kept))
    among = edges.to_table(columns=list(EDGE), filter=pc.field("src").isin(ids) & pc.field("dst").isin(ids))
    found = nx.MultiDiGraph(item=item, neighbours_in_all=len(strength))
    for name, facts in _facts(graph, ids).items():
        found.add_node(name, **facts)
    for edge in sorted(among.to_pylist(), key=lambda edge: (edge["src"], edge["dst"], edge["edge_type"])):
        found.add_edge(
            edge["src"], edge["dst"], key=edge["edge_type"], edge_type=edge["edge_type"], weight=edge["weight"]
        )
    return found


def write_gexf(network: Any, path: Path) -> None:
    """For Gephi and its like."""
    import networkx as nx

    nx.write_gexf(network, path)


def render(network: Any) -> str:
    """The network as one self-contained page; positions are the same every time."""
    import networkx as nx

    item = network.graph["item"]
    layout = nx.spring_layout(
        nx.Graph(network), seed=7, k=2.2 / max(len(network), 2) ** 0.5, pos={item: (0, 0)}, fixed=[item]
    )
    width, height = SIZE
    far = max((abs(value) for place in layout.values() for value in place), default=1.0) or 1.0
    at = {
        name: (width / 2 + x / far * (width / 2 - 110), height / 2 + y / far * (height / 2 - 40))
        for name, (x, y) in layout.items()
    }
    heaviest = max((edge["weight"] for _, _, edge in network.edges(data=True)), default=1.0)
    marks = []
    for src, dst, edge in network.edges(data=True):
        (x1, y1), (x2, y2) = at[src], at[dst]
        strong = edge["weight"] / heaviest
        shade = 0.2 + 0.6 * strong if item in (src, dst) else 0.12
        marks.append(
            f'<line x1="{x1:.0f}" y1="{y1:.0f}" x2="{x2:.0f}" y2="{y2:.0f}" stroke="{COLOURS[edge["edge_type"]]}" '
            f'stroke-width="{1 + 4 * strong:.1f}" stroke-opacity="{shade:.2f}">'
            f"<title>{escape(src)} → {escape(dst)}: {LABELS[edge['edge_type']]}, {edge['weight']:.3g}</title></line>"
        )
    for name, facts in network.nodes(data=True):
        x, y = at[name]
        title = facts.get("title") or name
        short = title if len(title) <= LONGEST_LABEL else title[: LONGEST_LABEL - 1] + "…"
        about = ", ".join(str(facts[key]) for key in ("title", "category") if facts.get(key))
        about = f"{about} ({facts['events']} events{', tail' if facts['is_tail'] else ''})"
        fill = "var(--fg)" if name == item else "var(--soft)"
        marks.append(
            f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{9 if name == item else 5}" fill="{fill}">'
            f"<title>{escape(name)}: {escape(about)}</title>"
            f'</circle><text x="{x:.0f}" y="{y - 10:.0f}" text-anchor="middle">{escape(short)}</text>'
        )
    kinds = "".join(f'<span style="color:{COLOURS[kind]}">■</span> {label} &nbsp; ' for kind, label in LABELS.items())
    shown, everyone = len(network) - 1, network.graph["neighbours_in_all"]
    heading = network.nodes[item].get("title") or item
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(heading)}</title><style>{STYLE} svg{{max-width:none}}</style><body>"
        f"<h1>{escape(heading)}</h1><p>{escape(item)}, with the strongest {shown} of its {everyone} neighbours and "
        f"the edges among them. {kinds}</p>"
        f'<svg viewBox="0 0 {width} {height}">{"".join(marks)}</svg></body></html>'
    )


def _facts(graph: Path, ids: pa.Array) -> dict[str, dict[str, Any]]:
    mine = pc.field("item_id").isin(ids)
    nodes = pq.read_table(graph / "full" / "nodes", columns=["item_id", "events", "is_tail"], filters=mine)
    facts = {row.pop("item_id"): row for row in nodes.sort_by("item_id").to_pylist()}
    items = graph / "tables" / "items"
    if items.exists():
        known = ds.dataset(items)
        columns = [name for name in ("item_id", "title", "category") if name in known.schema.names]
        for row in known.to_table(columns=columns, filter=mine).to_pylist():
            facts[row.pop("item_id")].update({key: value for key, value in row.items() if value is not None})
    return facts
