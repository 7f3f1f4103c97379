"""What the page shows about items: attributes, completions of typed text, and the neighbourhood in the graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow.compute as pc

from retrieval.search.retriever import Retriever
from retrieval.values import clean_text


def describe_item(retriever: Retriever, row: int) -> dict[str, Any]:
    """Return what is known about an item: its id, attributes and number of events.

    Args:
        retriever: the version.
        row: the item's row in the catalogue.
    """
    catalogue = retriever.catalogue
    known = {name: catalogue.attributes[name][row].as_py() for name in catalogue.attributes.column_names}
    return known | {"item_id": catalogue.item_ids[row], "events": int(catalogue.events[row])}


def completions(retriever: Retriever, text: str, limit: int = 10) -> list[dict[str, Any]]:
    """Return items whose id begins with a text; then those with all of its words in the title, most events first.

    Args:
        retriever: the version.
        text: what was typed.
        limit: the greatest number of items to return.
    """
    catalogue = retriever.catalogue
    prefix = clean_text(text) or ""
    low = int(np.searchsorted(catalogue.item_ids, prefix))
    rows = []
    for row in range(low, min(low + limit, catalogue.n_rows)):
        if not catalogue.item_ids[row].startswith(prefix):
            break
        rows.append(row)
    words = prefix.split()
    if len(rows) < limit and words and "title" in catalogue.attributes.column_names:
        with_all_words = None
        for word in words:
            with_word = pc.match_substring(catalogue.attributes["title"], word, ignore_case=True)
            with_all_words = with_word if with_all_words is None else pc.and_(with_all_words, with_word)
        titled = np.flatnonzero(pc.fill_null(with_all_words, False).to_numpy())
        titled = titled[np.argsort(-catalogue.events[titled], kind="stable")]
        rows += [row for row in titled[: limit + len(rows)].tolist() if row not in rows]
    return [describe_item(retriever, row) for row in rows[:limit]]


def ego_graph(retriever: Retriever, row: int, n_neighbours: int = 20) -> dict[str, Any]:
    """Return an item with its strongest neighbours in the graph, and the edges among all of these.

    Args:
        retriever: the version.
        row: the item's row in the catalogue.
        n_neighbours: the greatest number of neighbours to return.

    Returns:
        nodes: the item, then its neighbours, the strongest first. edges: each with from and to (positions in nodes),
        type and weight.
    """
    names = retriever.ranker.edges.type_names
    strength: dict[int, float] = {}
    for kind in range(len(names)):
        outgoing = [(dst, weight) for dst, edge_kind, weight in out_edges(retriever, row) if edge_kind == kind]
        # Weights are comparable only within one type.
        top = max((weight for _, weight in outgoing), default=1.0)
        for dst, weight in outgoing:
            strength[dst] = max(strength.get(dst, 0.0), weight / top)
    nodes = [row, *sorted(strength, key=lambda dst: (-strength[dst], dst))[:n_neighbours]]
    position = {node: number for number, node in enumerate(nodes)}
    edges = [
        {"from": position[src], "to": position[dst], "type": names[kind], "weight": weight}
        for src in position
        for dst, kind, weight in out_edges(retriever, src)
        if dst in position
    ]
    return {"nodes": [describe_item(retriever, node) for node in nodes], "edges": edges}


def out_edges(retriever: Retriever, row: int) -> Iterator[tuple[int, int, float]]:
    """Yield the edges from an item as (row of the other item, number of the edge type, weight).

    Args:
        retriever: the version.
        row: the item's row in the catalogue.
    """
    dst, kind, weight = retriever.ranker.edges.neighbours(np.array([row], np.int64))
    return zip(dst.tolist(), kind.tolist(), weight.tolist(), strict=True)


def shared_category(category: str | None, other: str | None) -> str | None:
    """Return the leading levels that two categories have in common; None if they share none.

    Args:
        category: levels split by " > ".
        other: levels split by " > ".

    >>> shared_category("Shoes > Running", "shoes > Hiking")
    'Shoes'
    """
    if category is None or other is None:
        return None
    levels = []
    for level, other_level in zip(category.split(" > "), other.split(" > "), strict=False):
        if level.casefold() != other_level.casefold():
            break
        levels.append(level)
    return " > ".join(levels) or None
