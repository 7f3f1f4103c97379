"""The page at `/` and what it asks for: completion, an item, and why an ad stands next to it or does not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field, create_model

from retrieval.api import schemas
from retrieval.api.fast_path import read_model
from retrieval.api.problem import json_response, problem
from retrieval.api.state import Served
from retrieval.config import ServeConfig
from retrieval.search import explain

_FOLDER = Path(__file__).parent / "page"
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
# All that the page loads is its own.
_POLICY = "default-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"


def page_routes(
    served: Served,
    config: ServeConfig,
    request_model: type[schemas.RetrieveRequest],
    clock: Callable[[datetime], datetime],
) -> tuple[APIRouter, list[type[schemas.RetrieveRequest]]]:
    """(the routes, the models of their bodies, which are read raw)."""
    router = APIRouter(tags=["why"])
    longest = config.max_id_length
    model = create_model(
        "ExplainRequest",
        __base__=request_model,
        expected=(str | None, Field(None, min_length=1, max_length=longest, description="An item or ad to look for")),
    )

    def static(name: str) -> Callable[[], Awaitable[Response]]:
        path = _FOLDER / name
        headers = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}

        async def answer() -> Response:
            return Response(content, media_type=_KINDS[path.suffix], headers=headers)

        content = path.read_bytes()
        return answer

    router.get("/", include_in_schema=False)(static("index.html"))
    router.get("/page.css", include_in_schema=False)(static("page.css"))
    router.get("/page.js", include_in_schema=False)(static("page.js"))

    @router.get("/v1/items", response_model=None, responses=schemas.problems(401, 422, 503))
    async def complete(
        q: str = Query(min_length=1, max_length=longest), limit: int = Query(10, ge=1, le=50)
    ) -> Response:
        """Items whose id begins with `q`, then those with all of its words in their titles, the most viewed first."""
        snapshot = served.snapshot
        found = await asyncio.to_thread(explain.completions, snapshot.retriever, q, limit)
        return json_response({"version": snapshot.version, "items": found})

    @router.get("/v1/items/{item_id:path}/graph", response_model=None, responses=schemas.problems(401, 404, 422, 503))
    async def graph(item_id: str, neighbours: int = Query(20, ge=1, le=100)) -> Response:
        """An item, its strongest neighbours in the item graph, and the edges among them."""
        snapshot = served.snapshot
        row = snapshot.retriever.catalogue.row_of.get(item_id)
        if row is None:
            return problem(404, f"item {item_id!r} is not in the catalogue of version {snapshot.version}")
        found = await asyncio.to_thread(explain.ego, snapshot.retriever, row, neighbours)
        return json_response({"version": snapshot.version, "item_id": item_id} | found)

    @router.post(
        "/v1/explain",
        response_model=None,
        responses=schemas.problems(400, 401, 408, 413, 422, 503),
        openapi_extra=schemas.body_of(model),
    )
    async def why(request: Request) -> Response:
        """The results of `/v1/retrieve` for the same body, with what they are made of; and why `expected` is not there.

        For people who look into one request: it costs many times what the request itself does.
        """
        asked = await read_model(request.receive, config, model)
        if isinstance(asked, Response):
            return asked
        snapshot = served.snapshot
        conditions = asked.to_request(clock(snapshot.as_of))
        found = explain.results(snapshot.retriever, conditions)
        expected = getattr(asked, "expected", None)
        if expected is not None:
            found["expected"] = asdict(explain.missing(snapshot.retriever, conditions, expected))
        return json_response({"version": snapshot.version, "asked": asked.k, "at": conditions.at} | found)

    return router, [model]
