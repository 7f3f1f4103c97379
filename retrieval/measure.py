"""Prometheus metrics of a server, and the ASGI layer that counts and times its requests, failed ones too."""

from __future__ import annotations

import logging
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problem import problem

_log = logging.getLogger(__name__)
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "lightsage_requests", "Requests by endpoint and status", ["endpoint", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "lightsage_request_seconds", "Time per request", ["endpoint"], buckets=_SECONDS, registry=self.registry
        )
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


class Measured:
    """An ASGI layer around the app; Starlette's own middleware class would cost as much as a small search."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and note endpoint, status and time of an HTTP request; what raises becomes a problem."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 0

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception:
            _log.exception("a request to %s failed", scope["path"])
            # Answered here and not raised on: the server would log it again and drop the client's connection.
            if not status:
                await problem(500, "the server failed on this request; its log says why")(scope, receive, watch)
        finally:
            # The route's pattern, not the path: one series an endpoint.
            endpoint = getattr(scope.get("route"), "path", "unknown")
            self._metrics.requests.labels(endpoint, status).inc()
            self._metrics.seconds.labels(endpoint).observe(time.perf_counter() - start)
