"""The cost of a request beside its retrieval: CPU µs in the whole application, in one process without a socket.

    python benchmarks/request_overhead.py [--requests 3000]

The catalogue is small. Each figure is the best of several rounds, in which the variants take turns. Two parts of the
API replace code of libraries, and this benchmark shows what each of them saves: the route in front of the framework
(`retrieval.api.fast_path`) and metrics without locks (`retrieval.api.telemetry`).
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any
from unittest.mock import patch

from filters import AS_OF, generate_catalogue
from load import K, ads, edges
from prometheus_client import CollectorRegistry, Counter, Histogram

from retrieval.api.app import Snapshot, create_app
from retrieval.api.telemetry import Metrics
from retrieval.catalogue.ads import Ads
from retrieval.search.request import RetrievalRequest
from retrieval.search.retriever import Retriever

ROWS, DIM = 500, 16
ROUNDS = 7
PATH = "/v1/retrieve"
ITEM, COUNTRY = "i0000003", "AA"
Variant = Callable[[], Awaitable[None]]


def main() -> int:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--requests", type=int, default=3000, help="per round and variant")
    chosen = options.parse_args()
    catalogue = generate_catalogue(ROWS, DIM, clusters=20)
    table = Ads.from_table(ads(catalogue), catalogue.row_of)
    retriever = Retriever(catalogue, edges(ROWS), table, None, as_of=AS_OF)
    costs = asyncio.run(measure(retriever, chosen.requests))
    for name, microseconds in costs.items():
        print(f"{microseconds:7.1f} µs  {name}")
    return 0


async def measure(retriever: Retriever, n: int) -> dict[str, float]:
    """CPU µs of each variant by its name, the best of the rounds."""
    app = new_app(retriever)
    with_fast_path, without = app.build_middleware_stack(), app.build_middleware_stack()
    without._app._app._path = ""  # type: ignore[attr-defined]  # so that its FastRoute passes every request on
    with patch("retrieval.api.app.Metrics", LibraryMetrics):
        counted = new_app(retriever)
    request = RetrievalRequest([ITEM], K, country=COUNTRY, reasons=False)
    async with app.router.lifespan_context(app), counted.router.lifespan_context(counted):
        variants: dict[str, Variant] = {
            "a request, answered by the fast path": asks(app, with_fast_path),
            "a request, answered by the framework's route": asks(app, without),
            "a request, counted by the library's metrics": asks(counted, counted.build_middleware_stack()),
            "its retrieval alone": lambda: retrieve(retriever, request),
        }
        best = dict.fromkeys(variants, float("inf"))
        for variant in variants.values():
            await cpu_microseconds(variant, n // 10)
        for _ in range(ROUNDS):
            for name, variant in variants.items():
                best[name] = min(best[name], await cpu_microseconds(variant, n))
    return best


def new_app(retriever: Retriever) -> Any:
    """An application that serves the retriever."""
    return create_app(lambda: Snapshot("v1", AS_OF, retriever), lambda: "v1", clock=lambda as_of: as_of)


class LibraryMetrics(Metrics):
    """Metrics of every request, kept by the library's own classes; the child of each label is looked up only once."""

    def __init__(self) -> None:
        super().__init__()
        registry = CollectorRegistry()
        self.by_status = Counter("requests", "", ["endpoint", "status"], registry=registry).labels(PATH, 200)
        self.by_endpoint = Histogram("request_seconds", "", ["endpoint"], registry=registry).labels(PATH)
        stages = Histogram("stage_seconds", "", ["stage"], registry=registry)
        self.by_stage = [stages.labels(str(n)) for n in range(3)]
        self.counters = [Counter(name, "", registry=registry) for name in ("plans", "asked", "returned")]

    def count_request(self, endpoint: str, status: int, seconds: float) -> None:
        """Count one HTTP request."""
        self.by_status.inc()
        self.by_endpoint.observe(seconds)

    def count_retrieval(self, response: Any, k: int) -> None:
        """Count one retrieval."""
        for stage, seconds in zip(self.by_stage, response.seconds, strict=True):
            stage.observe(seconds)
        for counter, n in zip(self.counters, (1, k, len(response.items)), strict=True):
            counter.inc(n)


async def cpu_microseconds(variant: Variant, n: int) -> float:
    """CPU µs of one call."""
    start = time.thread_time()
    for _ in range(n):
        await variant()
    return 1e6 * (time.thread_time() - start) / n


def asks(app: Any, layers: Any) -> Variant:
    """One request through the layers of an application, with a body that has arrived already."""
    body = json.dumps({"items": [ITEM], "k": K, "country": COUNTRY, "reasons": False}).encode()
    message = {"type": "http.request", "body": body, "more_body": False}
    scope = {
        "type": "http",
        "app": app,
        "http_version": "1.1",
        "method": "POST",
        "path": PATH,
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [(b"host", b"x"), (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }

    async def receive() -> dict[str, Any]:
        return message

    async def send(part: dict[str, Any]) -> None:
        assert part.get("status", 200) == 200

    async def ask() -> None:
        await layers(dict(scope), receive, send)

    return ask


async def retrieve(retriever: Retriever, request: RetrievalRequest) -> None:
    """Answer the same request by the retriever alone."""
    retriever.retrieve(request)


if __name__ == "__main__":
    sys.exit(main())
