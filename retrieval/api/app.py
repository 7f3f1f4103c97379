"""The HTTP API over one loaded version, assembled from its routes and the ASGI layers in front of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Scope

from retrieval.api import schemas
from retrieval.api.admission import AdmissionControl, Tokens
from retrieval.api.change_routes import ChangeRoutes
from retrieval.api.connections import Connections
from retrieval.api.documentation import document
from retrieval.api.fast_path import FastRoute
from retrieval.api.page_routes import PageRoutes
from retrieval.api.problem import busy, failure, field_problem, problem
from retrieval.api.retrieval_routes import RetrievalRoutes
from retrieval.api.security_headers import SecurityHeaders
from retrieval.api.state import ServerState, Snapshot
from retrieval.api.status_routes import StatusRoutes
from retrieval.api.telemetry import Metrics, RequestTelemetry
from retrieval.api.workers import Workers
from retrieval.config import ServeConfig
from retrieval.errors import BusyError, ChangeLogError, ClientGoneError, RequestError
from retrieval.live.change_log import ChangeLog, MemoryChangeLog

__all__ = ["Snapshot", "Tokens", "create_app"]


def create_app(
    load: Callable[[], Snapshot],
    current_version: Callable[[], str],
    config: ServeConfig | None = None,
    clock: Callable[[datetime], datetime] = lambda _as_of: datetime.now(UTC),
    log: ChangeLog | None = None,
    tokens: Tokens | None = None,
) -> FastAPI:
    """Return the application.

    Args:
        load: opens the published version; called before the first request, and whenever another version is published.
        current_version: returns the name of the version that is published now.
        config: the limits of the server; by default those of `ServeConfig`.
        clock: takes the as-of time of the served version, and returns the time for which requests without `at` are
            answered, e.g. now, the as-of time or a fixed time.
        log: where live changes are recorded; by default in memory, until the server stops.
        tokens: the bearer tokens that clients need; by default reading is open and changes are refused.
    """
    config, metrics = config or ServeConfig(), Metrics()
    state = ServerState(load, current_version, log or MemoryChangeLog(), config, metrics, clock)
    # Explanations must not delay the retrievals that show ads, so each kind of request has its own threads.
    workers = [Workers(config, metrics, name) for name in ("retrieve", "explain")]
    retrieval = RetrievalRoutes(state, config, metrics, workers[0])
    connections = Connections(config, metrics)
    status = StatusRoutes(state, config, metrics, lambda: connections.stopping)
    changes = ChangeRoutes(state, config)
    page = PageRoutes(state, config, retrieval.body, workers[1])

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with state.running():
            yield
        for threads in workers:
            threads.close()

    # The pages of /docs are served from here, not from a CDN: servers and their users often have no internet.
    app = FastAPIOffline(
        title="LightSAGE Ads Retrieval",
        version="1",
        lifespan=lifespan,
        redoc_url=None,
        # Without this, the framework checks on each request whether OpenTelemetry is set up.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.config, app.state.connections = config, connections
    # Routes are also listed here, because the framework wraps routers and its wrappers do not tell which route matches.
    routes = [*app.routes]
    for router in (retrieval.router, status.router, changes.router, page.router):
        app.include_router(router)
        routes += router.routes
    _add_error_handlers(app)
    document(app, [*retrieval.bodies, *changes.bodies, *page.bodies, schemas.ProblemBody])

    framework_layers = app.build_middleware_stack

    def all_layers() -> ASGIApp:
        """Return our layers in front of the framework's, so that requests on the fast path skip the framework's."""
        fast = FastRoute(SecurityHeaders(framework_layers()), "/v1/retrieve", retrieval.answer)
        admitted = AdmissionControl(fast, tokens or Tokens())
        return RequestTelemetry(admitted, metrics, config.slow_seconds, lambda scope: _route_of(routes, scope))

    app.build_middleware_stack = all_layers  # type: ignore[method-assign]
    return app


def _route_of(routes: Sequence[BaseRoute], scope: Scope) -> str | None:
    """Return the pattern of the route that a request would have reached; None if no route matches."""
    # Within a mount, `root_path` ends at the mount, but the patterns of the routes begin at the root of the app.
    scope = {**scope, "root_path": scope.get("app_root_path", scope.get("root_path", ""))}
    partial = None
    for route in routes:
        match, _ = route.matches(scope)
        if match is Match.FULL:
            return getattr(route, "path", None)
        if match is Match.PARTIAL and partial is None:  # another method
            partial = getattr(route, "path", None)
    return partial


def _add_error_handlers(app: FastAPI) -> None:
    """Answer every error with a problem document."""

    @app.exception_handler(RequestError)
    async def wrong_request(_: Request, error: RequestError) -> Response:
        return field_problem(error.field, error.message)

    @app.exception_handler(BusyError)
    async def too_busy(_: Request, error: BusyError) -> Response:
        return busy(str(error))

    @app.exception_handler(ClientGoneError)
    async def client_gone(_: Request, error: ClientGoneError) -> Response:
        return problem(400, str(error))

    @app.exception_handler(ChangeLogError)
    async def log_not_written(_: Request, error: ChangeLogError) -> Response:
        return problem(507, str(error))

    @app.exception_handler(RequestValidationError)
    async def wrong_parameters(_: Request, error: RequestValidationError) -> Response:
        lines = [(str(line["loc"][-1]), str(line["msg"])) for line in error.errors()]
        errors = [{"field": name, "message": message} for name, message in lines]
        return problem(422, "; ".join(f"{name}: {message}" for name, message in lines), errors)

    # The framework raises the error again after the answer, and the outermost layer logs it.
    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        return failure()

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> Response:
        return problem(error.status_code, str(error.detail), headers=error.headers)
