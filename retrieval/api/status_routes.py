"""The routes for operations: what is served, whether the server is alive and ready, and its metrics."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from retrieval.api import schemas
from retrieval.api.problem import json_response, problem
from retrieval.api.state import ServerState
from retrieval.api.telemetry import Metrics
from retrieval.config import ServeConfig
from retrieval.times import microseconds


class StatusRoutes:
    """Version, liveness, readiness and metrics.

    Attributes:
        router: the routes.
    """

    def __init__(
        self, state: ServerState, config: ServeConfig, metrics: Metrics, is_stopping: Callable[[], bool]
    ) -> None:
        self._state, self._config, self._metrics, self._is_stopping = state, config, metrics, is_stopping
        self.router = APIRouter()
        version_responses = {200: {"model": schemas.VersionResponse}, **schemas.problems(401, 503)}
        self.router.get("/v1/version", response_model=None, responses=version_responses)(self.version)
        self.router.get("/healthz", response_model=None)(self.healthz)
        self.router.get("/readyz", response_model=None, responses=schemas.problems(503))(self.readyz)
        self.router.get("/metrics", response_model=None, include_in_schema=False)(self.metrics)

    async def version(self) -> Response:
        """What is served, and what is published."""
        state, snapshot = self._state, self._state.snapshot
        retriever = snapshot.retriever
        return json_response(
            {
                "version": snapshot.version,
                "as_of": snapshot.as_of,
                "current_version": await state.published(),
                "refused": None if state.refused is None else state.refused._asdict(),
                "at": state.now(snapshot),
                "now": datetime.now(UTC),
                "changes_sequence": state.sequence,
                "items": retriever.catalogue.n_rows,
                "ads": None if retriever.ads is None else len(retriever.ads),
                "ads_in_flight": self._ads_in_flight(),
                "index": "exact" if retriever.ann is None else retriever.ann.kind,
                "stages": retriever.stages._asdict(),
            }
        )

    async def healthz(self) -> Response:
        """The process is alive."""
        return json_response({"status": "ok"})

    async def readyz(self) -> Response:
        """A version is loaded and not too old, and the server is not stopping."""
        if self._is_stopping():
            return problem(503, "this server is stopping")
        if not self._state.ready:
            return problem(503, "no version is loaded yet")
        snapshot, limit = self._state.snapshot, self._config.max_age_hours
        age = self._state.now(snapshot) - snapshot.as_of
        if limit is not None and age > timedelta(hours=limit):
            hours = age.total_seconds() / 3600
            return problem(503, f"version {snapshot.version} is {hours:.1f} h old, the limit is {limit} h")
        refused = None if self._state.refused is None else self._state.refused._asdict()
        return json_response({"status": "ready", "version": snapshot.version, "refused": refused})

    async def metrics(self) -> Response:
        """The metrics in the Prometheus text format."""
        if self._state.ready and (in_flight := self._ads_in_flight()) is not None:
            self._metrics.in_flight.set(in_flight)
        return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST)

    def _ads_in_flight(self) -> int | None:
        snapshot = self._state.snapshot
        ads = snapshot.retriever.ads
        return None if ads is None else ads.in_flight(microseconds(self._state.now(snapshot)))
