"""Prometheus metrics of a server, and the ASGI layer that counts and times its requests, failed ones too."""

from __future__ import annotations

import logging
import random
import re
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retrieval.api.problem import problem
from retrieval.search.retriever import Response

_log = logging.getLogger(__name__)
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)
_STAGE_SECONDS = (0.0001, 0.0002, 0.0005, *_SECONDS[1:])
_REQUEST_ID = re.compile(r"[!-~]{1,128}")
STAGES = ("eligibility", "search", "reasons")


class Times(Collector):
    """A histogram of seconds for each value of a label, for one thread: the library's locks cost more than a count."""

    def __init__(
        self, name: str, what: str, label: str, bounds: tuple[float, ...], registry: CollectorRegistry
    ) -> None:
        self._name, self._what, self._label, self._bounds = name, what, label, bounds
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}
        registry.register(self)

    def observe(self, of: str, seconds: float) -> None:
        """Count one duration."""
        if of not in self._counts:
            self._counts[of], self._sums[of] = [0] * (len(self._bounds) + 1), 0.0
        self._counts[of][bisect_left(self._bounds, seconds)] += 1
        self._sums[of] += seconds

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """What a scrape reads."""
        family = HistogramMetricFamily(self._name, self._what, labels=[self._label])
        edges = [*map(str, self._bounds), "+Inf"]
        for of, counts in self._counts.items():
            family.add_metric([of], list(zip(edges, accumulate(counts), strict=True)), self._sums[of])
        yield family


class Counts(Collector):
    """A counter for each combination of labels, for one thread, as `Times`."""

    def __init__(self, name: str, what: str, labels: tuple[str, ...], registry: CollectorRegistry) -> None:
        self._name, self._what, self._labels = name, what, labels
        self._counts: defaultdict[tuple[str | int, ...], int] = defaultdict(int, {} if labels else {(): 0})
        registry.register(self)

    def add(self, n: int, *of: str | int) -> None:
        """Count n more."""
        self._counts[of] += n

    def collect(self) -> Iterator[CounterMetricFamily]:
        """What a scrape reads."""
        family = CounterMetricFamily(self._name, self._what, labels=self._labels)
        for of, count in self._counts.items():
            family.add_metric(list(map(str, of)), count)
        yield family


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counts(
            "lightsage_requests", "Requests by endpoint and status", ("endpoint", "status"), self.registry
        )
        self.seconds = Times("lightsage_request_seconds", "Time per request", "endpoint", _SECONDS, self.registry)
        self.stages = Times(
            "lightsage_stage_seconds", "Time of retrieval by stage", "stage", _STAGE_SECONDS, self.registry
        )
        self.plans = Counts(
            "lightsage_plans", "Retrievals by how they were answered: index or exact scan", ("plan",), self.registry
        )
        self.asked = Counts("lightsage_asked_results", "Results asked for (k)", (), self.registry)
        self.returned = Counts("lightsage_returned_results", "Results returned", (), self.registry)
        self.in_flight = Gauge("lightsage_ads_in_flight", "Ads that are active now", registry=self.registry)
        self.fallbacks = Counter("lightsage_fallbacks", "Requests with nothing known", registry=self.registry)
        self.short = Counter("lightsage_short_lists", "Requests with fewer than k results", registry=self.registry)
        self.unknown = Counter("lightsage_unknown_items", "Unknown items in requests", registry=self.registry)
        self.turned_away = Counter(
            "lightsage_turned_away", "Requests refused because too many were being answered", registry=self.registry
        )
        self.reloads = Counter(
            "lightsage_reloads", "Published versions that were served, or refused", ["outcome"], registry=self.registry
        )
        self.refused = Gauge(
            "lightsage_version_refused", "1 while the published version cannot be served", registry=self.registry
        )
        self.changes = Gauge(
            "lightsage_changes_sequence", "Last entry of the log of live changes that counts", registry=self.registry
        )
        self.as_of = Gauge(
            "lightsage_as_of_timestamp_seconds", "As-of time served", ["version"], registry=self.registry
        )

    def count(self, response: Response, k: int) -> None:
        """One answered retrieval."""
        for stage, seconds in zip(STAGES, response.seconds, strict=True):
            self.stages.observe(stage, seconds)
        self.plans.add(1, response.plan)
        self.asked.add(k)
        self.returned.add(len(response.items))
        if response.unknown_items:
            self.unknown.inc(len(response.unknown_items))
        if response.fallback:
            self.fallbacks.inc()
        if len(response.items) < k:
            self.short.inc()


class Measured:
    """An ASGI layer around the app; Starlette's own middleware class would cost as much as a small search."""

    def __init__(self, app: ASGIApp, metrics: Metrics, slow_seconds: float) -> None:
        self._app = app
        self._metrics = metrics
        self._slow_seconds = slow_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and note endpoint, status and time of an HTTP request; what raises becomes a problem."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # a GET of whose answer the server sends the headers alone
            scope = {**scope, "method": "GET"}
        start = time.perf_counter()
        status = 0
        ident = _ident(scope)

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", ident.encode("latin-1"))]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception:
            _log.exception("a request to %r failed", scope["path"], extra={"request_id": ident})
            # Answered here and not raised on: the server would log it again and drop the client's connection.
            if not status:
                await problem(500, "the server failed on this request; its log says why")(scope, receive, watch)
        finally:
            # The route's pattern, not the path: one series an endpoint.
            endpoint = getattr(scope.get("route"), "path", "unknown")
            seconds = time.perf_counter() - start
            self._metrics.requests.add(1, endpoint, status)
            self._metrics.seconds.observe(endpoint, seconds)
            if seconds > self._slow_seconds:
                more = {"request_id": ident, "endpoint": endpoint, "status": status, "seconds": round(seconds, 4)}
                _log.warning("%s %r took %.3f s", scope["method"], scope["path"], seconds, extra=more)


def _ident(scope: Scope) -> str:
    """The client's X-Request-ID, or one made here; it stands in the answer and in every line about the request."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(sent := value.decode("latin-1")):
            return sent
    return f"{random.getrandbits(64):016x}"
