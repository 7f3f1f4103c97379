"""Prometheus metrics of a server, and the ASGI layer that counts and times requests and logs slow and failed ones.

The metrics that every request updates use `RequestCounter` and `RequestHistogram`. The library's own classes, which the
rarer metrics use, take a lock for each count and would make requests slower (`python benchmarks/request_overhead.py`).
"""

from __future__ import annotations

import logging
import random
import re
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retrieval.api.problem import failure
from retrieval.search.response import Response

_log = logging.getLogger(__name__)
_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)
_STAGE_BUCKETS = (0.0001, 0.0002, 0.0005, *_BUCKETS[1:])
_REQUEST_ID = re.compile(r"[!-~]{1,128}")
STAGES = ("eligibility", "search", "reasons")


class RequestHistogram(Collector):
    """A histogram of seconds with one label. Only the event loop's thread may use it: it takes no lock."""

    def __init__(
        self, name: str, description: str, label: str, bounds: tuple[float, ...], registry: CollectorRegistry
    ) -> None:
        self._name, self._description, self._label, self._bounds = name, description, label, bounds
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}
        registry.register(self)

    def observe(self, value: str, seconds: float) -> None:
        """Count one duration under a value of the label."""
        if value not in self._counts:
            self._counts[value], self._sums[value] = [0] * (len(self._bounds) + 1), 0.0
        self._counts[value][bisect_left(self._bounds, seconds)] += 1
        self._sums[value] += seconds

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yield the metric for a scrape."""
        family = HistogramMetricFamily(self._name, self._description, labels=[self._label])
        bounds = [*map(str, self._bounds), "+Inf"]
        for value, counts in self._counts.items():
            family.add_metric([value], list(zip(bounds, accumulate(counts), strict=True)), self._sums[value])
        yield family


class RequestCounter(Collector):
    """A counter with any number of labels. Only the event loop's thread may use it: it takes no lock."""

    def __init__(self, name: str, description: str, labels: tuple[str, ...], registry: CollectorRegistry) -> None:
        self._name, self._description, self._labels = name, description, labels
        self._counts: defaultdict[tuple[str | int, ...], int] = defaultdict(int, {} if labels else {(): 0})
        registry.register(self)

    def add(self, n: int, *values: str | int) -> None:
        """Add n under values of the labels."""
        self._counts[values] += n

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the metric for a scrape."""
        family = CounterMetricFamily(self._name, self._description, labels=self._labels)
        for values, count in self._counts.items():
            family.add_metric(list(map(str, values)), count)
        yield family


class Metrics:
    """The metrics of one server, in their own registry."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self._requests = RequestCounter(
            "lightsage_requests", "Requests by endpoint and status", ("endpoint", "status"), registry
        )
        self._request_seconds = RequestHistogram(
            "lightsage_request_seconds", "Time per request", "endpoint", _BUCKETS, registry
        )
        self._stage_seconds = RequestHistogram(
            "lightsage_stage_seconds", "Time of retrieval by stage", "stage", _STAGE_BUCKETS, registry
        )
        self._plans = RequestCounter(
            "lightsage_plans", "Retrievals by search plan: index, exact scan or popular items", ("plan",), registry
        )
        self._asked = RequestCounter("lightsage_asked_results", "Results asked for (k)", (), registry)
        self._returned = RequestCounter("lightsage_returned_results", "Results returned", (), registry)
        self.in_flight = Gauge("lightsage_ads_in_flight", "Ads that are active now", registry=registry)
        self.fallbacks = Counter("lightsage_fallbacks", "Requests without any known viewed item", registry=registry)
        self.short = Counter("lightsage_short_lists", "Requests with fewer than k results", registry=registry)
        self.unknown = Counter("lightsage_unknown_items", "Unknown items in requests", registry=registry)
        self.turned_away = Counter(
            "lightsage_turned_away", "Requests rejected because too many were being answered", registry=registry
        )
        self.reloads = Counter(
            "lightsage_reloads", "Published versions that were served or refused", ["outcome"], registry=registry
        )
        self.refused = Gauge(
            "lightsage_version_refused", "1 while the published version cannot be served", registry=registry
        )
        self.current_unreadable = Gauge(
            "lightsage_current_unreadable",
            "1 while the name of the published version cannot be read",
            registry=registry,
        )
        self.changes = Gauge(
            "lightsage_changes_sequence", "Last applied entry of the log of live changes", registry=registry
        )
        self.as_of = Gauge(
            "lightsage_as_of_timestamp_seconds", "As-of time of the served version", ["version"], registry=registry
        )

    def count_request(self, endpoint: str, status: int, seconds: float) -> None:
        """Count one HTTP request."""
        self._requests.add(1, endpoint, status)
        self._request_seconds.observe(endpoint, seconds)

    def count_retrieval(self, response: Response, k: int) -> None:
        """Count one answered retrieval request for k results."""
        for stage, seconds in zip(STAGES, response.seconds, strict=True):
            self._stage_seconds.observe(stage, seconds)
        self._plans.add(1, response.plan)
        self._asked.add(k)
        self._returned.add(len(response.items))
        if response.unknown_items:
            self.unknown.inc(len(response.unknown_items))
        if response.fallback:
            self.fallbacks.inc()
        if len(response.items) < k:
            self.short.inc()


class RequestTelemetry:
    """An ASGI layer that counts and times requests, logs slow and failed ones, and gives each one an id.

    Starlette's own middleware class would cost as much as a small search.

    Args:
        app: the app to pass requests on to.
        metrics: where requests are counted.
        slow_seconds: requests that take longer are logged.
        route_of: returns the pattern of the route for a request that was answered before it reached its route.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, slow_seconds: float, route_of: Callable[[Scope], str | None]
    ) -> None:
        self._app, self._metrics, self._slow_seconds, self._route_of = app, metrics, slow_seconds, route_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and record its endpoint, status and time; an exception becomes a 500 response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # answered like GET; the server drops the body
            scope = {**scope, "method": "GET"}
        start = time.perf_counter()
        status = 0
        request_id = _request_id(scope)

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode("latin-1"))]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            # The id is in the message too, because logs in plain text show nothing but the message.
            extra: dict[str, str | int | float] = {"request_id": request_id}
            _log.exception("request %s to %r failed", request_id, scope["path"], extra=extra)
            # The error is not raised again: the server would log it a second time and drop the client's connection.
            if not status:
                await failure()(scope, receive, send_with_id)
        finally:
            # The label is the route's pattern, not the path, so that each endpoint is one time series.
            endpoint = getattr(scope.get("route"), "path", None) or self._route_of(scope) or "unknown"
            seconds = time.perf_counter() - start
            self._metrics.count_request(endpoint, status, seconds)
            if seconds > self._slow_seconds:
                extra = {"request_id": request_id, "endpoint": endpoint, "status": status, "seconds": round(seconds, 4)}
                line = (request_id, scope["method"], scope["path"], seconds, status)
                _log.warning("request %s, %s %r, took %.3f s; status %d", *line, extra=extra)


def _request_id(scope: Scope) -> str:
    """Return the client's X-Request-ID if it is valid, else a new id."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(request_id := value.decode("latin-1")):
            return request_id
    return f"{random.getrandbits(64):016x}"
