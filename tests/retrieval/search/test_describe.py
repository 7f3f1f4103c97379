"""The example items that the page offers are popular, and of many categories."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from retrieval.search.describe import examples
from retrieval.search.retriever import Retriever


def slow_examples(items: list[dict[str, Any]], limit: int) -> set[str]:
    """Sort items by events; return the first of each top-level category, and then the first of the others."""
    ranked = sorted(items, key=lambda item: (-item["events"], item["item_id"]))
    chosen: list[dict[str, Any]] = []
    for item in ranked:
        if level(item) and all(level(item) != level(other) for other in chosen):
            chosen.append(item)
    chosen += [item for item in ranked if item not in chosen]
    return {item["item_id"] for item in chosen[:limit]}


def level(item: dict[str, Any]) -> str:
    return str(item["category"] or "").split(" > ")[0]


@pytest.mark.parametrize("limit", [1, 3, 4, 10, 100])
def test_examples_are_popular_items_of_many_categories(world: SimpleNamespace, limit: int) -> None:
    catalogue = world.small_catalogue()
    retriever = Retriever(catalogue, world.small_edges(catalogue), None, None, as_of=world.AS_OF)
    chosen = examples(retriever, limit)
    categories = catalogue.attributes["category"].to_pylist()
    items = [
        {"item_id": item, "events": events, "category": category}
        for item, events, category in zip(catalogue.item_ids, catalogue.events.tolist(), categories, strict=True)
    ]
    assert {item["item_id"] for item in chosen} == slow_examples(items, limit)
    assert len(chosen) == min(limit, 60)
    events = [item["events"] for item in chosen]
    assert events == sorted(events, reverse=True)


def test_a_catalogue_without_categories_or_items_has_examples_too(world: SimpleNamespace) -> None:
    catalogue = world.small_catalogue()
    bare = replace(catalogue, attributes=pa.table({"item_id": catalogue.item_ids}))
    retriever = Retriever(bare, world.small_edges(bare), None, None, as_of=world.AS_OF)
    assert [item["events"] for item in examples(retriever, 3)] == sorted(bare.events.tolist(), reverse=True)[:3]
