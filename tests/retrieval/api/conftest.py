"""A retriever of the small shop, a client of a server over it, and a browser."""

from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from retrieval.api.app import Snapshot
from retrieval.catalogue.ads import Ads
from retrieval.config import ServeConfig
from retrieval.search.retriever import Retriever
from tests.browser import chromium
from tests.retrieval.api.client import serve


@pytest.fixture(scope="module")
def retriever(world: SimpleNamespace, catalogue, edges) -> Retriever:
    ads = Ads.from_table(world.ads_table(world.random_ads(60, 150, 4)), catalogue.row_of)
    return Retriever(catalogue, edges, ads, None, as_of=world.AS_OF)


@pytest.fixture(scope="module")
def client(world, retriever) -> Iterator[httpx.Client]:
    config = ServeConfig(max_k=50, max_items=5, max_exclude=5, max_body_bytes=5000, max_age_hours=48)
    yield from serve(world, Snapshot("v1", world.AS_OF, retriever), config, world.AS_OF + timedelta(hours=1))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The system's Chromium, driven by Playwright."""
    with chromium() as browser:
        yield browser
