"""A small random catalogue with tail items, edges and ads; the slow, obviously right way to answer; servers."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

from retrieval.api.app import Snapshot, Tokens, create_app
from retrieval.catalogue.ads import Ads
from retrieval.catalogue.ads_table import SCHEMA
from retrieval.catalogue.edges import Edges
from retrieval.catalogue.items import Catalogue
from retrieval.config import ScoreWeights, ServeConfig
from retrieval.live.change_log import ChangeLog
from retrieval.ranking.reranker import Context, Counter, Reranker
from retrieval.search.filters import NO_FILTERS, Filters
from retrieval.search.retriever import Retriever

AS_OF = datetime(2024, 5, 1, 12, tzinfo=UTC)
TYPES = ("co_search", "strong_click", "swing")
DIRECT = 0.2
Row = dict[str, Any]


def unit(generator: np.random.Generator, n: int, dim: int) -> np.ndarray:
    vectors = generator.normal(size=(n, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def small_catalogue(n: int = 60, dim: int = 8, seed: int = 0) -> Catalogue:
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
    generator = np.random.default_rng(seed + 1)
    drawn = generator.integers(0, n, (n * per_item, 2)).tolist()
    kinds = generator.integers(0, 3, n * per_item).tolist()
    return sorted({(a, b, TYPES[kind]) for (a, b), kind in zip(drawn, kinds, strict=True) if a != b})


def edge_table(rows: list[tuple[int, int, str]]) -> pa.Table:
    return pa.table(
        {
            "src": pa.array([f"item{a:05d}" for a, _, _ in rows], pa.string()),
            "dst": pa.array([f"item{b:05d}" for _, b, _ in rows], pa.string()),
            "edge_type": pa.array([kind for _, _, kind in rows], pa.string()),
            "weight": pa.array([1.0 + at % 3 for at in range(len(rows))], pa.float64()),
        }
    )


def small_edges(catalogue: Catalogue, seed: int = 0) -> Edges:
    return Edges.from_table(
        edge_table(edge_rows(catalogue.n_rows, seed)), catalogue.item_ids, ScoreWeights(direct=DIRECT)
    )


def random_ads(n_items: int, n_ads: int, seed: int) -> list[Row]:
    """Ads with every kind of null, tied bids, repeated ids and a few unknown items."""
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
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def slow_winners(
    rows: list[Row], known: set[str], at: datetime, country: str | None, filters: Filters = NO_FILTERS
) -> dict[str, Row]:
    """The winning ad of each item with an eligible one, straight from the words of the rule."""
    newest: dict[str, Row] = {}
    for ad in rows:
        if ad["ad_id"] not in newest or (ad["version"] or 0) >= (newest[ad["ad_id"]]["version"] or 0):
            newest[ad["ad_id"]] = ad
    winners: dict[str, Row] = {}
    for ad in newest.values():
        places = {place.casefold() for place in ad["countries"] or []}
        if (
            ad["item_id"] in known
            and (ad["starts_at"] is None or ad["starts_at"] <= at)
            and (ad["ends_at"] is None or ad["ends_at"] > at)
            and ad["status"] in (None, "active")
            and (not places or (country is not None and country.casefold() in places))
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
    """Brute force over `item`, with bias and bonus; the viewed items' direct tail rows are `item_unaveraged`."""
    mean = np.zeros(catalogue.dim)
    for age, row in enumerate(reversed(views)):
        mean += weight**age * catalogue.query[row]
    mean /= np.linalg.norm(mean)
    matrix = np.array(catalogue.item)
    slot = {int(row): at for at, row in enumerate(catalogue.tail_rows)}
    for a, b, _ in edges:
        if a in views and b in slot:
            matrix[b] = catalogue.item_unaveraged[slot[b]]
    score = matrix @ mean + catalogue.bias
    counted = [weight**age for age in reversed(range(len(views)))]
    for at, (a, b, kind) in enumerate(edges):
        for row, share in zip(views, counted, strict=True):
            if row == a and kind == "strong_click":
                score[b] += share / sum(counted) * DIRECT * np.log1p(1.0 + at % 3)
    return np.asarray(score)


def pre_ranker(n: int = 60) -> Reranker:
    """One that knows items, kinds, a query and a country."""
    generator = np.random.default_rng(5)
    views, opened = generator.integers(0, n, (2, 900))
    item, kind = np.arange(n, dtype=np.int32), generator.integers(-1, 5, n).astype(np.int32)
    ones = np.ones(300, np.float32)
    of_query = Context.of(views[:1], 0.5, query="red shoes").query
    said = {"query>item": np.array([of_query]), "country>item": np.array(["DE", "FR"])}
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
            for name, keys in said.items()
        ),
    ]
    some = np.full(4, 0.5, np.float32)
    return Reranker(tuple(counters), np.array([1, 0.3, 0.2, 0.4, 0.1], np.float32), -some, some, depth=12)


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return small_catalogue()


@pytest.fixture(scope="session")
def edges(catalogue: Catalogue) -> Edges:
    return small_edges(catalogue)


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """The URL of an application on a real socket, until the end of the block."""
    from retrieval.api.server import create_server

    listening, urls = threading.Event(), list[str]()
    server = create_server(app, port=0, on_listening=lambda url: (urls.append(url), listening.set()))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert listening.wait(20)
    yield urls[0]
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture(scope="session")
def world() -> SimpleNamespace:
    """The helpers above: test modules cannot import one another."""
    helpers = (
        unit,
        small_catalogue,
        edge_rows,
        edge_table,
        small_edges,
        random_ads,
        ads_table,
        slow_winners,
        slow_scores,
        pre_ranker,
        serving,
    )
    return SimpleNamespace(AS_OF=AS_OF, TYPES=TYPES, **{helper.__name__: helper for helper in helpers})


WRITE = {"Authorization": "Bearer write-secret"}
FAST = {"current_check_seconds": 0.02, "changes_poll_seconds": 0.02, "retry_refused_seconds": 0.0}


class Shop:
    """Versions to publish, and servers over what is published."""

    def __init__(self, world: SimpleNamespace, catalogue: Any, edges: Any) -> None:
        self.world, self.catalogue, self.edges = world, catalogue, edges
        self.published = "v1"
        self.versions: dict[str, Callable[[], Snapshot]] = {"v1": self.version("v1", 4)}

    def version(self, name: str, seed: int | None, catalogue: Any = None) -> Callable[[], Snapshot]:
        catalogue = catalogue or self.catalogue
        rows = None if seed is None else self.world.random_ads(60, 150, seed)
        ads = None if rows is None else Ads.from_table(self.world.ads_table(rows), catalogue.row_of, quiet=True)
        return lambda: Snapshot(
            name, self.world.AS_OF, Retriever(catalogue, self.edges, ads, None, as_of=self.world.AS_OF)
        )

    @contextmanager
    def serving(
        self, log: ChangeLog | None = None, tokens: Tokens | None = None, **config: Any
    ) -> Iterator[httpx.Client]:
        app = create_app(
            lambda: self.versions[self.published](),
            lambda: self.published,
            ServeConfig.model_validate(FAST | config),
            lambda as_of: as_of,
            log,
            tokens or Tokens(write="write-secret"),
        )
        with self.world.serving(app) as url, httpx.Client(base_url=url, timeout=20) as client:
            yield client


@pytest.fixture
def shop(world, catalogue, edges) -> Shop:
    return Shop(world, catalogue, edges)


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.01)


def shown(client: httpx.Client, **more: Any) -> dict[str, str]:
    """Ad by item, of all that may be shown."""
    results = client.post("/v1/retrieve", json={"items": [], "k": 100} | more).json()["results"]
    return {result["item_id"]: result["ad_id"] for result in results}
