"""What the page shows about items: attributes, completions of typed text, and the neighbourhood in the graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrieval.arrays import Rows
from retrieval.search.retriever import Retriever
from retrieval.values import clean_text

MOST_WORDS = 8
"""The greatest number of words of a typed text that are looked for in titles."""
EXAMPLES_FROM = 200
"""Examples are chosen among this many items, those with the most events."""


def describe_items(retriever: Retriever, rows: list[int]) -> list[dict[str, Any]]:
    """Return what is known about items: id, attributes and number of events of each.

    Args:
        retriever: the version.
        rows: the items' rows in the catalogue.
    """
    catalogue = retriever.catalogue
    known = catalogue.attributes.take(pa.array(rows, pa.int64())).to_pylist()
    events = catalogue.events[np.array(rows, np.int64)].tolist()
    items = catalogue.item_ids[np.array(rows, np.int64)].tolist()
    return [line | {"item_id": item, "events": number} for line, item, number in zip(known, items, events, strict=True)]


def completions(retriever: Retriever, text: str, limit: int = 10) -> list[dict[str, Any]]:
    """Return items whose id begins with a text, then items with all its words in the title, most events first.

    Only the first `MOST_WORDS` different words of a text count.

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
    words = list(dict.fromkeys(prefix.split()))[:MOST_WORDS]
    if len(rows) < limit and words and "title" in catalogue.attributes.column_names:
        titled = _titled(catalogue.attributes["title"], words)
        titled = titled[np.argsort(-catalogue.events[titled], kind="stable")]
        rows += [row for row in titled[: limit + len(rows)].tolist() if row not in rows]
    return describe_items(retriever, rows[:limit])


def examples(retriever: Retriever, limit: int = 10) -> list[dict[str, Any]]:
    """Return items to begin with: of those with the most events, one of each top-level category, then others.

    Args:
        retriever: the version.
        limit: the greatest number of items to return.
    """
    catalogue = retriever.catalogue
    n = min(catalogue.n_rows, EXAMPLES_FROM)
    # Any items with as many events as the last one chosen may be left out, but the same ones each time.
    rows = np.argpartition(-catalogue.events, n - 1)[:n] if n else np.zeros(0, np.int64)
    rows = rows[np.lexsort((rows, -catalogue.events[rows]))]
    if "category" not in catalogue.attributes.column_names:
        return describe_items(retriever, rows[:limit].tolist())
    categories = catalogue.attributes["category"].take(pa.array(rows)).to_pylist()
    levels = [(category or "").split(" > ")[0].casefold() for category in categories]
    is_first = [level != "" and level not in levels[:number] for number, level in enumerate(levels)]
    order = sorted(range(len(rows)), key=lambda number: not is_first[number])[:limit]
    return describe_items(retriever, rows[sorted(order)].tolist())


def _titled(titles: pa.ChunkedArray, words: list[str]) -> Rows:
    """Return the rows (n,) whose title contains all words, ascending."""
    rows = np.arange(len(titles))
    # The longest word is usually the rarest; each further word is looked for only in titles that have the earlier ones.
    for word in sorted(words, key=len, reverse=True):
        with_word = pc.fill_null(pc.match_substring(titles, word, ignore_case=True), False)
        titles, rows = titles.filter(with_word), rows[with_word.to_numpy()]
    return rows


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
    graph = retriever.ranker.edges
    dst, kind, weight = graph.neighbours(np.array([row], np.int64))
    # Weights are comparable only within one type.
    top = np.zeros(len(graph.type_names), np.float32)
    np.maximum.at(top, kind, weight)
    neighbours, which = np.unique(dst, return_inverse=True)
    strength = np.zeros(len(neighbours))
    np.maximum.at(strength, which, weight / top[kind])
    nodes = [row, *neighbours[np.lexsort((neighbours, -strength))][:n_neighbours].tolist()]
    position = {node: number for number, node in enumerate(nodes)}
    source, edge = graph.positions(np.array(nodes, np.int64))
    among = np.isin(graph.dst[edge], nodes)
    columns = (source[among], graph.dst[edge[among]], graph.type[edge[among]], graph.weight[edge[among]])
    edges = [
        {"from": src, "to": position[dst], "type": graph.type_names[kind], "weight": weight}
        for src, dst, kind, weight in zip(*(column.tolist() for column in columns), strict=True)
    ]
    return {"nodes": describe_items(retriever, nodes), "edges": edges}


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
