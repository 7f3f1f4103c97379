"""The small shop of `tests.oracles`, and servers over it, as fixtures."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from retrieval.api.app import Snapshot, Tokens, create_app
from retrieval.catalogue.ads import Ads
from retrieval.catalogue.edges import Edges
from retrieval.catalogue.items import Catalogue
from retrieval.config import ServeConfig
from retrieval.live.change_log import ChangeLog
from retrieval.search.retriever import Retriever
from tests.oracles.small_shop import (
    AS_OF,
    TYPES,
    ads_table,
    edge_rows,
    edge_table,
    random_ads,
    slow_scores,
    slow_winners,
    small_catalogue,
    small_edges,
    small_reranker,
    unit,
)


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return small_catalogue()


@pytest.fixture(scope="session")
def edges(catalogue: Catalogue) -> Edges:
    return small_edges(catalogue)


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve an application on a real socket until the end of the block; yield its URL."""
    from retrieval.api.server import create_server

    listening, urls = threading.Event(), list[str]()
    server = create_server(app, port=0, on_listening=lambda url: (urls.append(url), listening.set()))
    server._drain_seconds = 0.0
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert listening.wait(20)
    yield urls[0]
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture(scope="session")
def world() -> SimpleNamespace:
    """The functions of `tests.oracles.small_shop`, and `serving`."""
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
        small_reranker,
        serving,
    )
    return SimpleNamespace(AS_OF=AS_OF, TYPES=TYPES, **{helper.__name__: helper for helper in helpers})


WRITE = {"Authorization": "Bearer write-secret"}
FAST = {"current_check_seconds": 0.02, "changes_poll_seconds": 0.02, "retry_refused_seconds": 0.0}


class Shop:
    """Versions to publish, and servers of the published version."""

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


def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds, at most 20 seconds."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met within 20 seconds"
        time.sleep(0.01)


def ads_by_item(client: httpx.Client, **conditions: Any) -> dict[str, str]:
    """Return the ad of each item that may be shown."""
    results = client.post("/v1/retrieve", json={"items": [], "k": 100} | conditions).json()["results"]
    return {result["item_id"]: result["ad_id"] for result in results}
