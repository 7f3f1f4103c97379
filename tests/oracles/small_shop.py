"""A small random shop with tail items, edges and ads, and slow but obvious versions of what retrieval computes."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from retrieval.catalogue.ads_table import SCHEMA
from retrieval.catalogue.edges import Edges
from retrieval.catalogue.items import Catalogue
from retrieval.config import ScoreWeights
from retrieval.ranking.reranker import Context, Counter, Reranker
from retrieval.search.filters import NO_FILTERS, Filters

AS_OF = datetime(2024, 5, 1, 12, tzinfo=UTC)
TYPES = ("co_search", "strong_click", "swing")
DIRECT = 0.2
Row = dict[str, Any]


def unit(generator: np.random.Generator, n: int, dim: int) -> np.ndarray:
    """Return n random vectors of length 1."""
    vectors = generator.normal(size=(n, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def small_catalogue(n: int = 60, dim: int = 8, seed: int = 0) -> Catalogue:
    """Return n items, a third of them tail items."""
    generator = np.random.default_rng(seed)
    tail = np.sort(generator.choice(n, n // 3, replace=False)).astype(np.int64)
    categories = ["Shoes", "Shoes > Running", "Shoesmith", "Garden > Tools", None]
    return Catalogue(
        item_ids=np.array([f"item{row:05d}" for row in range(n)], dtype=object),
        query=unit(generator, n, dim),
        item=unit(generator, n, dim),
        tail_rows=tail,
        item_unaveraged=unit(generator, len(tail), dim),
        events=generator.integers(0, 9, n),
        popularity=generator.random(n).round(1),
        bias=(0.3 * generator.normal(size=n)).astype(np.float32),
        attributes=pa.table(
            {
                "item_id": [f"item{row:05d}" for row in range(n)],
                "category": pa.array([categories[row % 5] for row in range(n)], pa.string()),
                "price": pa.array([None if row % 7 == 0 else float(row) for row in range(n)], pa.float64()),
            }
        ),
    )


def edge_rows(n: int, seed: int = 0, per_item: int = 6) -> list[tuple[int, int, str]]:
    """Return random edges as (source row, destination row, type), sorted; edge number i has the weight 1 + i % 3."""
    generator = np.random.default_rng(seed + 1)
    drawn = generator.integers(0, n, (n * per_item, 2)).tolist()
    kinds = generator.integers(0, 3, n * per_item).tolist()
    return sorted({(a, b, TYPES[kind]) for (a, b), kind in zip(drawn, kinds, strict=True) if a != b})


def edge_table(rows: list[tuple[int, int, str]]) -> pa.Table:
    """Return the edges as the graph build writes them."""
    return pa.table(
        {
            "src": pa.array([f"item{a:05d}" for a, _, _ in rows], pa.string()),
            "dst": pa.array([f"item{b:05d}" for _, b, _ in rows], pa.string()),
            "edge_type": pa.array([kind for _, _, kind in rows], pa.string()),
            "weight": pa.array([1.0 + number % 3 for number in range(len(rows))], pa.float64()),
        }
    )


def small_edges(catalogue: Catalogue, seed: int = 0) -> Edges:
    """Return random edges of a catalogue; the score's term for direct edges has the weight DIRECT."""
    return Edges.from_table(
        edge_table(edge_rows(catalogue.n_rows, seed)), catalogue.item_ids, ScoreWeights(direct=DIRECT)
    )


def random_ads(n_items: int, n_ads: int, seed: int) -> list[Row]:
    """Return ads with every kind of null, tied bids, repeated ids and a few unknown items."""
    generator = np.random.default_rng(seed + 2)

    def pick(values: list[Any]) -> Any:
        return values[generator.integers(len(values))]

    def moment() -> datetime:
        return AS_OF + timedelta(hours=int(generator.integers(-5, 6)))

    return [
        {
            "ad_id": f"ad{generator.integers(n_ads * 2):04d}",
            "item_id": f"item{generator.integers(int(n_items * 1.05) + 1):05d}",
            "campaign_id": f"c{generator.integers(6)}",
            "advertiser_id": pick([None, "x", "y", "z"]),
            "starts_at": pick([None, moment()]),
            "ends_at": pick([None, moment()]),
            "status": pick([None, "active", "active", "active", "paused"]),
            "countries": pick([None, [], ["DE"], ["de", "FR"], ["US"]]),
            "bid": pick([None, 0.0, 1.0, 2.0]),
            "version": pick([None, 0, 1, 2]),
        }
        for _ in range(n_ads)
    ]


def ads_table(rows: list[Row]) -> pa.Table:
    """Return rows as an ads table."""
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def slow_winners(
    rows: list[Row], known: set[str], at: datetime, country: str | None, filters: Filters = NO_FILTERS
) -> dict[str, Row]:
    """Return the winning ad of each item that has an eligible one, as the rule is worded."""
    newest: dict[str, Row] = {}
    for ad in rows:
        if ad["ad_id"] not in newest or (ad["version"] or 0) >= (newest[ad["ad_id"]]["version"] or 0):
            newest[ad["ad_id"]] = ad
    winners: dict[str, Row] = {}
    for ad in newest.values():
        countries = {code.casefold() for code in ad["countries"] or []}
        if (
            ad["item_id"] in known
            and (ad["starts_at"] is None or ad["starts_at"] <= at)
            and (ad["ends_at"] is None or ad["ends_at"] > at)
            and ad["status"] in (None, "active")
            and (not countries or (country is not None and country.casefold() in countries))
            and ad["advertiser_id"] not in filters.exclude_advertisers
            and ad["campaign_id"] not in filters.exclude_campaigns
        ):
            best = winners.get(ad["item_id"])
            if best is None or (-(ad["bid"] or 0), ad["ad_id"]) < (-(best["bid"] or 0), best["ad_id"]):
                winners[ad["item_id"]] = ad
    return winners


def slow_scores(
    catalogue: Catalogue, edges: list[tuple[int, int, str]], views: list[int], weight: float = 0.5
) -> np.ndarray:
    """Return the scores of all items by brute force: inner products, plus bias, plus the bonus of direct edges.

    A tail item with an edge from a viewed item is scored by its own vector.
    """
    mean = np.zeros(catalogue.dim)
    for age, row in enumerate(reversed(views)):
        mean += weight**age * catalogue.query[row]
    mean /= np.linalg.norm(mean)
    matrix = np.array(catalogue.item)
    slot = {int(row): number for number, row in enumerate(catalogue.tail_rows)}
    for a, b, _ in edges:
        if a in views and b in slot:
            matrix[b] = catalogue.item_unaveraged[slot[b]]
    score = matrix @ mean + catalogue.bias
    weights = [weight**age for age in reversed(range(len(views)))]
    for number, (a, b, kind) in enumerate(edges):
        for row, share in zip(views, weights, strict=True):
            if row == a and kind == "strong_click":
                score[b] += share / sum(weights) * DIRECT * np.log1p(1.0 + number % 3)
    return np.asarray(score)


def small_reranker(n: int = 60) -> Reranker:
    """Return a pre-ranker with counters of items, categories, a search text and countries."""
    generator = np.random.default_rng(5)
    views, opened = generator.integers(0, n, (2, 900))
    item, kind = np.arange(n, dtype=np.int32), generator.integers(-1, 5, n).astype(np.int32)
    ones = np.ones(300, np.float32)
    of_query = Context.of(views[:1], 0.5, query="red shoes").query
    keys_of = {"query>item": np.array([of_query]), "country>item": np.array(["DE", "FR"])}
    counters = [
        Counter.of_pairs("item>item", item, item, views, opened),
        Counter.of_pairs("item>category", item, kind, views, opened),
        *(
            Counter.of_entities(
                name,
                generator.integers(0, len(keys), 300).astype(np.int32),
                opened[:300].astype(np.int32),
                ones,
                item,
                keys=keys,
            )
            for name, keys in keys_of.items()
        ),
    ]
    half = np.full(4, 0.5, np.float32)
    return Reranker(tuple(counters), np.array([1, 0.3, 0.2, 0.4, 0.1], np.float32), -half, half, depth=12)
