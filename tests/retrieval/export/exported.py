"""Exports of the small shop, a slow search of an export, and the code of docs/export.md."""

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.catalogue.ads import Ads
from retrieval.catalogue.edges import Edges
from retrieval.config import RetrievalConfig
from retrieval.export.rows import EVERYWHERE, Export
from retrieval.index_folder import Index
from tests.oracles.small_shop import (
    AS_OF,
    ads_table,
    random_ads,
    slow_scores,
    slow_winners,
    small_catalogue,
    small_edges,
)
from tests.source_tree import ROOT

VERSION = "20240501T120000-0123abcd"
N = 60
ADS = random_ads(N, 200, 3)
CATALOGUE = small_catalogue(N)
# Viewed items and countries to search with.
SEARCHES = [([3], None), ([7, 21], "DE"), ([30, 2, 2, 11], "US"), ([59], "FR")]
Found = list[tuple[str, str | None]]


def small_export(*, with_ads: bool = True, catalogue: Any = CATALOGUE, version: str = VERSION) -> Export:
    """Return an export of the small shop."""
    edges: Edges = small_edges(catalogue)
    ads = Ads.from_table(ads_table(ADS), catalogue.row_of, quiet=True) if with_ads else None
    # An export reads no approximate index.
    index = Index(catalogue, edges, ads, None, AS_OF, {})  # type: ignore[arg-type]
    return Export(version, index, RetrievalConfig(), lambda message, share: None)


def slow_search(views: list[int], k: int, at: datetime, country: str | None, category: str | None = None) -> Found:
    """Return the best items and their ads by the score without edges, one item at a time."""
    score = slow_scores(CATALOGUE, [], views)
    winners = slow_winners(ADS, set(CATALOGUE.item_ids), at, country)
    categories = CATALOGUE.attributes["category"].to_pylist()
    found: Found = []
    for row in np.argsort(-score).tolist():
        item, of_item = CATALOGUE.item_ids[row], (categories[row] or "").casefold()
        if row == views[-1] or item not in winners:
            continue
        if category is None or of_item == category or of_item.startswith(f"{category} > "):
            found.append((item, winners[item]["ad_id"]))
    return found[:k]


def assert_finds_what_exact_search_finds(
    search: Callable[[np.ndarray, int, datetime, str, list[str], str | None], Sequence[Sequence[Any]]],
    viewed: np.ndarray,
    views: list[int],
    country: str | None,
    categories: Sequence[str] = ("shoes",),
) -> None:
    """Check a documented search at two times, with short and complete lists, and in categories.

    Args:
        search: (query vector, k, time, country, items to leave out, category) → rows that begin with item and ad.
        viewed: the query vectors of the viewed items, as the store has them.
        views: the viewed items.
        country: the country of the shopper.
        categories: the categories to search in.
    """
    query, last = documented_functions()["query_vector"](viewed), CATALOGUE.item_ids[views[-1]]
    for hours in (0, 2.5):
        at = AS_OF + timedelta(hours=hours)
        for k, category in ((5, None), (N, None), *((5, category) for category in categories)):
            rows = search(query, k, at, country or EVERYWHERE, [last], category)
            assert [tuple(row[:2]) for row in rows] == slow_search(views, k, at, country, category)


def documented_search(heading: str, client: Any) -> Callable[..., Sequence[Sequence[Any]]]:
    """Return the search of a store in Python from docs/export.md, for `assert_finds_what_exact_search_finds`."""
    search = documented_functions(heading)["search"]
    return lambda query, k, at, *conditions: search(client, query, k, int(at.timestamp()), *conditions)


def blocks(heading: str, language: str) -> list[str]:
    """Return the code blocks in a language below a heading of docs/export.md."""
    page = (ROOT / "docs" / "export.md").read_text()
    section = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def documented(heading: str, language: str) -> str:
    """Return the first code block in a language below a heading of docs/export.md."""
    return blocks(heading, language)[0]


def documented_functions(heading: str | None = None) -> dict[str, Any]:
    """Return the functions that the page's Python code defines for every store and, with a heading, for one store."""
    namespace: dict[str, Any] = {}
    for name in ("The query vector", *([heading] if heading else [])):
        for block in blocks(name, "python"):
            exec(block, namespace)
    return namespace


def interrupted(after: int) -> Any:
    """Return a progress callback that fails at its n-th call, as Ctrl-C would."""
    calls = 0

    def progress(message: str, share: float) -> None:
        nonlocal calls
        calls += 1
        if calls >= after:
            raise KeyboardInterrupt

    return progress


def folder_content(folder: Path) -> dict[str, bytes]:
    """Return the content of every file of a folder by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
