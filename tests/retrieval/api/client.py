"""Helpers that start a server, send requests and check errors."""

from collections.abc import Iterator
from types import SimpleNamespace

import httpx

from retrieval.api.app import Snapshot, create_app
from retrieval.config import ServeConfig


def serve(world: SimpleNamespace, snapshot: Snapshot, config: ServeConfig, now) -> Iterator[httpx.Client]:
    """Yield a client of a server whose clock stands at `now`."""
    app = create_app(lambda: snapshot, lambda: "published", config, clock=lambda _: now)
    with world.serving(app) as url, httpx.Client(base_url=url, timeout=20) as client:
        yield client


def ask(client: httpx.Client, **body: object) -> httpx.Response:
    """Send a request for ads with this body."""
    return client.post("/v1/retrieve", json=body)


def assert_problem(response: httpx.Response, status: int, *words: str) -> None:
    """Check that a response is a problem document with this status and these words in its detail."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert {"type", "title", "detail"} <= set(body)
    for word in words:
        assert word in body["detail"]
    assert "Traceback" not in response.text
