"""Prometheus metrics of a server, and the ASGI layer that counts, times and logs its requests, failed ones too.

The metrics of the fast path are counted here without locks, as one thread answers all requests: the histograms and
counters of prometheus-client take three times as long per request (`python benchmarks/request_overhead.py` measures
both). Prometheus-client still renders the text, and counts whatever is rare.
"""

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
from retrieval.search.response import Response

_log = logging.getLogger(__name__)
_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)
_STAGE_BUCKETS = (0.0001, 0.0002, 0.0005, *_BUCKETS[1:])
_REQUEST_ID = re.compile(r"[!-~]{1,128}")
STAGES = ("eligibility", "search", "reasons")


class SingleThreadHistogram(Collector):
    """A histogram of seconds per value of one label, without locks.

    Args:
        name: the metric's name.
        help_text: what it measures.
        label: the label's name.
        buckets: the upper bounds of the buckets in seconds, ascending.
        registry: the registry that collects it.
    """

    def __init__(
        self, name: str, help_text: str, label: str, buckets: tuple[float, ...], registry: CollectorRegistry
    ) -> None:
        self._name, self._help_text, self._label, self._buckets = name, help_text, label, buckets
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}
        registry.register(self)

    def observe(self, label_value: str, seconds: float) -> None:
        """Count one duration."""
        if label_value not in self._counts:
            self._counts[label_value], self._sums[label_value] = [0] * (len(self._buckets) + 1), 0.0
        self._counts[label_value][bisect_left(self._buckets, seconds)] += 1
        self._sums[label_value] += seconds

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yield the metric as it stands, for a scrape."""
        family = HistogramMetricFamily(self._name, self._help_text, labels=[self._label])
        bounds = [*map(str, self._buckets), "+Inf"]
        for label_value, counts in self._counts.items():
            cumulative = list(zip(bounds, accumulate(counts), strict=True))
            family.add_metric([label_value], cumulative, self._sums[label_value])
        yield family


class SingleThreadCounter(Collector):
    """A counter per combination of label values, without locks.

    Args:
        name: the metric's name without its suffix `_total`.
        help_text: what it counts.
        labels: the names of the labels, which may be none.
        registry: the registry that collects it.
    """

    def __init__(self, name: str, help_text: str, labels: tuple[str, ...], registry: CollectorRegistry) -> None:
        self._name, self._help_text, self._labels = name, help_text, labels
        self._counts: defaultdict[tuple[str | int, ...], int] = defaultdict(int, {} if labels else {(): 0})
        registry.register(self)

    def add(self, n: int, *label_values: str | int) -> None:
        """Add n to the count of some label values."""
        self._counts[label_values] += n

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the metric as it stands, for a scrape."""
        family = CounterMetricFamily(self._name, self._help_text, labels=self._labels)
        for label_values, count in self._counts.items():
            family.add_metric(list(map(str, label_values)), count)
        yield family


class Metrics:
    """The metrics of one server, in their own registry."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.requests = SingleThreadCounter(
            "lightsage_requests", "Requests by endpoint and status", ("endpoint", "status"), registry
        )
        self.seconds = SingleThreadHistogram(
            "lightsage_request_seconds", "Time per request", "endpoint", _BUCKETS, registry
        )
        self.stages = SingleThreadHistogram(
            "lightsage_stage_seconds", "Time of retrieval by stage", "stage", _STAGE_BUCKETS, registry
        )
        self.plans = SingleThreadCounter(
            "lightsage_plans", "Retrievals by search plan: index or exact scan", ("plan",), registry
        )
        self.asked = SingleThreadCounter("lightsage_asked_results", "Results asked for (k)", (), registry)
        self.returned = SingleThreadCounter("lightsage_returned_results", "Results returned", (), registry)
        self.in_flight = Gauge("lightsage_ads_in_flight", "Ads that are active now", registry=registry)
        self.fallbacks = Counter("lightsage_fallbacks", "Requests of which no viewed item was known", registry=registry)
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
        self.changes = Gauge(
            "lightsage_changes_sequence", "Last applied entry of the log of live changes", registry=registry
        )
        self.as_of = Gauge(
            "lightsage_as_of_timestamp_seconds", "As-of time of the served version", ["version"], registry=registry
        )

    def count(self, response: Response, k: int) -> None:
        """Count one answered retrieval request for k results."""
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


class RequestTelemetry:
    """An ASGI layer that counts and times requests, logs slow and failed ones, and gives each one an id.

    Starlette's own middleware class would cost as much as a small search.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, slow_seconds: float) -> None:
        self._app = app
        self._metrics = metrics
        self._slow_seconds = slow_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and record its endpoint, status and time; an exception becomes a 500 response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # the server drops the body of a GET's answer
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
            _log.exception("a request to %r failed", scope["path"], extra={"request_id": request_id})
            # Not raised again: the server would log it a second time and drop the client's connection.
            if not status:
                await problem(500, "the server failed on this request; its log says why")(scope, receive, send_with_id)
        finally:
            # The route's pattern, not the path, so that each endpoint is one time series.
            endpoint = getattr(scope.get("route"), "path", "unknown")
            seconds = time.perf_counter() - start
            self._metrics.requests.add(1, endpoint, status)
            self._metrics.seconds.observe(endpoint, seconds)
            if seconds > self._slow_seconds:
                extra = {"request_id": request_id, "endpoint": endpoint, "status": status, "seconds": round(seconds, 4)}
                _log.warning("%s %r took %.3f s", scope["method"], scope["path"], seconds, extra=extra)


def _request_id(scope: Scope) -> str:
    """Return the client's X-Request-ID if it is valid, else a new id."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(request_id := value.decode("latin-1")):
            return request_id
    return f"{random.getrandbits(64):016x}"
