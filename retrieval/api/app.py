"""The HTTP API over one loaded version. The request path is thin on purpose: checked JSON in, raw JSON out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive

from retrieval.api import schemas
from retrieval.api.admission import Guard, Tokens
from retrieval.api.change_routes import change_routes
from retrieval.api.fast_path import Shortcut, read_model
from retrieval.api.page_routes import page_routes
from retrieval.api.problem import json_response, of_field, problem
from retrieval.api.state import Served, Snapshot
from retrieval.api.telemetry import Measured, Metrics
from retrieval.catalogue.ads import microseconds
from retrieval.config import ServeConfig
from retrieval.errors import ChangeLogError, RequestError
from retrieval.live.change_log import ChangeLog, MemoryChangeLog
from retrieval.search.request import RetrievalRequest
from retrieval.search.retriever import Response as Retrieved

__all__ = ["Snapshot", "Tokens", "create_app"]


def create_app(
    load: Callable[[], Snapshot],
    current_version: Callable[[], str],
    config: ServeConfig | None = None,
    clock: Callable[[datetime], datetime] = lambda _as_of: datetime.now(UTC),
    log: ChangeLog | None = None,
    tokens: Tokens | None = None,
) -> FastAPI:
    """The application.

    Args:
        load: opens the published version; called before the first request is taken, and when another is published.
        current_version: the name of the version that is published now.
        clock: the time that requests without `at` are answered for, given the as-of time of what is served: now, that
            time, or a fixed one.
        log: where live changes are kept; by default in memory, until the server ends.
    """
    config = config or ServeConfig()
    metrics = Metrics()
    model = schemas.limited(config)
    served = Served(load, current_version, log or MemoryChangeLog(), config, metrics, clock)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with served.running():
            yield

    # The pages of /docs come from here and not from a CDN: servers and their users are often without internet.
    app = FastAPIOffline(
        title="LightSAGE Ads Retrieval",
        version="1",
        lifespan=lifespan,
        redoc_url=None,
        # Asks at each request whether OpenTelemetry is set up.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )

    async def retrieved(receive: Receive) -> Response:
        asked = await read_model(receive, config, model)
        if isinstance(asked, Response):
            return asked
        snapshot = served.snapshot
        try:
            response = snapshot.retriever.retrieve(asked.to_request(clock(snapshot.as_of)))
        except RequestError as error:
            return of_field(error.field, error.message)
        metrics.count(response, asked.k)
        return json_response(
            {
                "version": snapshot.version,
                "asked": asked.k,
                "returned": len(response.items),
                "unknown_items": response.unknown_items,
                "results": _results(response),
            }
        )

    @app.post(
        "/v1/retrieve",
        response_model=None,
        responses={
            200: {"model": schemas.RetrieveResponse},
            **schemas.problems(400, 401, 408, 413, 422, 503),
        },
        openapi_extra=schemas.body_of(model),
    )
    async def retrieve(request: Request) -> Response:
        """The ads to show next to what a shopper looks at."""
        return await retrieved(request.receive)

    @app.get(
        "/v1/items/{item_id:path}/neighbors",
        response_model=None,
        responses={200: {"model": schemas.NeighborsResponse}, **schemas.problems(401, 404, 422, 503)},
    )
    async def neighbors(item_id: str, k: int = config.default_k) -> Response:
        """The items nearest to an item in the whole catalogue, advertised or not, and why."""
        if not 1 <= k <= config.max_k:
            return of_field("k", f"got {k}, expected 1 to {config.max_k}")
        snapshot = served.snapshot
        if item_id not in snapshot.retriever.catalogue.row_of:
            return problem(404, f"item {item_id!r} is not in the catalogue of version {snapshot.version}")
        response = snapshot.retriever.retrieve(RetrievalRequest([item_id], k, all_items=True))
        return json_response(
            {
                "version": snapshot.version,
                "item_id": item_id,
                "asked": k,
                "returned": len(response.items),
                "results": _results(response),
            }
        )

    @app.get(
        "/v1/version",
        response_model=None,
        responses={200: {"model": schemas.VersionResponse}, **schemas.problems(401, 503)},
    )
    async def version() -> Response:
        """What is served, and what is published."""
        snapshot = served.snapshot
        retriever = snapshot.retriever
        return json_response(
            {
                "version": snapshot.version,
                "as_of": snapshot.as_of,
                "current_version": await served.published(),
                "refused": None if served.refused is None else served.refused._asdict(),
                "changes_sequence": served.sequence,
                "items": retriever.catalogue.n_rows,
                "ads": None if retriever.ads is None else len(retriever.ads),
                "ads_in_flight": None
                if retriever.ads is None
                else retriever.ads.in_flight(microseconds(clock(snapshot.as_of))),
                "index": "exact" if retriever.ann is None else retriever.ann.kind,
                "stages": retriever.stages._asdict(),
            }
        )

    @app.get("/healthz", response_model=None)
    async def healthz() -> Response:
        """The process lives."""
        return json_response({"status": "ok"})

    @app.get("/readyz", response_model=None, responses=schemas.problems(503))
    async def readyz() -> Response:
        """An index is loaded, and fresh."""
        if not served.ready:
            return problem(503, "no version is loaded yet")
        snapshot = served.snapshot
        limit = config.max_age_hours
        age = clock(snapshot.as_of) - snapshot.as_of
        if limit is not None and age > timedelta(hours=limit):
            return problem(
                503, f"version {snapshot.version} is {age.total_seconds() / 3600:.1f} h old, the limit is {limit} h"
            )
        refused = None if served.refused is None else served.refused._asdict()
        return json_response({"status": "ready", "version": snapshot.version, "refused": refused})

    @app.get("/metrics", response_model=None, include_in_schema=False)
    async def prometheus() -> Response:
        if served.ready and served.snapshot.retriever.ads is not None:
            at = microseconds(clock(served.snapshot.as_of))
            metrics.in_flight.set(served.snapshot.retriever.ads.in_flight(at))
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    framework = app.build_middleware_stack

    def layers() -> ASGIApp:
        """Ours before the framework's, whose every layer the hot path would pay for."""
        guarded = Guard(Shortcut(framework(), "/v1/retrieve", retrieved), config, tokens or Tokens(), metrics)
        return Measured(guarded, metrics, config.slow_seconds)

    app.build_middleware_stack = layers  # type: ignore[method-assign]
    changing, change_models = change_routes(served, config)
    explaining, page_models = page_routes(served, config, model, clock)
    app.include_router(changing)
    app.include_router(explaining)
    _describe_errors(app)
    _describe_schema(app, [model, *change_models, *page_models, schemas.ProblemBody])
    return app


def _describe_errors(app: FastAPI) -> None:
    """Every error is a problem document."""

    @app.exception_handler(RequestError)
    async def refused(_: Request, error: RequestError) -> Response:
        return of_field(error.field, error.message)

    @app.exception_handler(ChangeLogError)
    async def not_written(_: Request, error: ChangeLogError) -> Response:
        return problem(507, str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        lines = [(str(line["loc"][-1]), str(line["msg"])) for line in error.errors()]
        errors = [{"field": name, "message": message} for name, message in lines]
        return problem(422, "; ".join(f"{name}: {message}" for name, message in lines), errors)

    @app.exception_handler(HTTPException)
    async def failed(_: Request, error: HTTPException) -> Response:
        return problem(error.status_code, str(error.detail), headers=error.headers)


def _describe_schema(app: FastAPI, models: list[type[BaseModel]]) -> None:
    """Document the request bodies, which FastAPI does not see as they are read raw."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
            _, definitions = models_json_schema(
                [(model, "validation") for model in models], ref_template=schemas.SCHEMA_AT
            )
            schema.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _results(response: Retrieved) -> list[dict[str, Any]]:
    # Written out: objects in between, or merged dictionaries, would take a tenth of a request.
    columns = zip(response.items, response.ads, response.scores, response.reasons, strict=True)
    results: list[dict[str, Any]] = [
        {"rank": rank, "item_id": item, "ad_id": ad, "score": score, "reason": reason}
        for rank, (item, ad, score, reason) in enumerate(columns, start=1)
    ]
    if response.stages is not None:
        for result, stages in zip(results, response.stages, strict=True):
            result["stages"] = stages
    return results
