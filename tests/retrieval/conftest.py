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
    pre_ranker,
    random_ads,
    slow_scores,
    slow_winners,
    small_catalogue,
    small_edges,
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
