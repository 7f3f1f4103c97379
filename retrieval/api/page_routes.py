"""The page at `/` and the routes behind it: completion, an item's graph, and why an ad is shown or not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field, create_model

from retrieval.api import page_schemas, schemas
from retrieval.api.fast_path import parse_query, read_body
from retrieval.api.problem import json_response
from retrieval.api.retrieval_routes import known_item, unknown_item
from retrieval.api.state import ServerState, Snapshot
from retrieval.api.workers import Workers
from retrieval.config import ServeConfig
from retrieval.search import explain
from retrieval.search.describe import completions, ego_graph, examples

_FOLDER = Path(__file__).parent / "page"
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}


class PageRoutes:
    """The page's files, and the routes that it calls.

    Args:
        state: the served version.
        config: the limits of the server.
        request_body: the model of the body of `/v1/retrieve`, with this server's limits.
        workers: the threads that answer the page's requests, so that no other request waits for these.

    Attributes:
        router: the routes.
        bodies: the models of the request bodies. These are read raw, so the framework does not document them.
    """

    def __init__(
        self, state: ServerState, config: ServeConfig, request_body: type[schemas.RetrieveBody], workers: Workers
    ) -> None:
        self._state, self._config, self._workers = state, config, workers
        expected = Field(None, min_length=1, max_length=config.max_id_length, description="An item or ad to look for")
        self._body = create_model("ExplainRequest", __base__=request_body, expected=(str | None, expected))
        self.bodies: list[type[BaseModel]] = [self._body]
        self.router = APIRouter(tags=["why"])
        for path, name in (("/", "index.html"), ("/page.css", "page.css"), ("/page.js", "page.js")):
            self.router.get(path, include_in_schema=False)(_static_file(_FOLDER / name, config.image_hosts))
        self._add_completion()
        # The second path takes the id as a parameter: clients and proxies resolve `.` and `..` in a path, even escaped.
        for path in ("/v1/items/{item_id:path}/graph", "/v1/graph"):
            self.router.add_api_route(
                path,
                self.graph,
                methods=["GET"],
                response_model=None,
                responses={200: {"model": page_schemas.GraphResponse}, **schemas.problems(401, 404, 422, 503)},
            )
        self.router.add_api_route(
            "/v1/explain",
            self.explain,
            name="why",
            methods=["POST"],
            response_model=None,
            responses={
                200: {"model": page_schemas.ExplainResponse},
                **schemas.problems(400, 401, 408, 413, 422, 503),
            },
            openapi_extra=schemas.body_of(self._body),
        )

    def _add_completion(self) -> None:
        max_length = self._config.max_id_length
        responses = {200: {"model": page_schemas.ItemsResponse}, **schemas.problems(401, 422, 503)}

        @self.router.get("/v1/items", response_model=None, responses=responses)
        async def complete(
            request: Request,
            q: str | None = Query(None, min_length=1, max_length=max_length),
            limit: int = Query(10, ge=1, le=50),
        ) -> Response:
            """Items whose id begins with `q`, then items whose title has all words of `q`, most events first.

            Only the first eight different words count. Without `q`, the answer is some of the items with the most
            events, each of another category as far as there are enough categories.
            """
            return await self._workers.run(request.scope, _completed, self._state.snapshot, q, limit)

    async def graph(self, request: Request, item_id: str, neighbours: int = Query(20, ge=1, le=100)) -> Response:
        """An item, its strongest neighbours in the item graph, and the edges among them."""
        snapshot = self._state.snapshot
        row = known_item(snapshot, item_id, self._config)
        if row is None:
            return unknown_item(snapshot, item_id)
        return await self._workers.run(request.scope, _graph, snapshot, item_id, row, neighbours)

    async def explain(self, request: Request) -> Response:
        """The results of `/v1/retrieve` for the same body, with the parts of each score, and why `expected` is missing.

        Meant for people who look into one request: it costs many times as much as the request itself.
        """
        body = await read_body(request.receive, self._config)
        if isinstance(body, Response):
            return body
        return await self._workers.run(request.scope, self._explained, self._state.snapshot.pinned(), body)

    def _explained(self, snapshot: Snapshot, raw: bytes) -> Response:
        body = parse_query(raw, self._config, self._body)
        if isinstance(body, Response):
            return body
        conditions = body.to_request(self._state.now(snapshot))
        explained = explain.results(snapshot.retriever, conditions)
        expected: str | None = getattr(body, "expected", None)
        if expected is not None:
            explained["expected"] = asdict(explain.missing(snapshot.retriever, conditions, expected))
        head: dict[str, Any] = {"version": snapshot.version, "asked": conditions.k, "at": conditions.at}
        if (unknown := snapshot.retriever.unknown_category(conditions)) is not None:
            head["unknown_category"] = unknown
        return json_response(head | explained)


def _completed(snapshot: Snapshot, text: str | None, limit: int) -> Response:
    retriever = snapshot.retriever
    items = examples(retriever, limit) if text is None else completions(retriever, text, limit)
    return json_response({"version": snapshot.version, "items": items})


def _graph(snapshot: Snapshot, item_id: str, row: int, neighbours: int) -> Response:
    graph = ego_graph(snapshot.retriever, row, neighbours)
    return json_response({"version": snapshot.version, "item_id": item_id} | graph)


def _static_file(path: Path, image_hosts: Sequence[str]) -> Callable[[], Awaitable[Response]]:
    content = path.read_bytes()
    if path.suffix == ".html":
        # No character that a host may have is special in HTML or in the policy.
        hosts = " ".join(image_hosts).encode()
        content = content.replace(b'name="image-hosts" content=""', b'name="image-hosts" content="%s"' % hosts)
    headers = _HEADERS | {"Content-Security-Policy": _policy(image_hosts)}

    async def answer() -> Response:
        return Response(content, media_type=_MEDIA_TYPES[path.suffix], headers=headers)

    return answer


def _policy(image_hosts: Sequence[str]) -> str:
    """Return the Content-Security-Policy: the page loads nothing from other hosts except pictures from some of them."""
    pictures = ["https:" if host == "*" else f"https://{host}" for host in image_hosts]
    images = " ".join(["img-src 'self' data:", *pictures])
    return f"default-src 'self'; {images}; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
