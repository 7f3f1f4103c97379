"""The routes that retrieve: `POST /v1/retrieve`, which the fast path answers, and an item's nearest neighbours."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from starlette.types import Receive, Scope

from retrieval.api import schemas
from retrieval.api.fast_path import parse_query, read_body
from retrieval.api.problem import busy, field_problem, json_response, problem
from retrieval.api.state import ServerState, Snapshot
from retrieval.api.telemetry import Metrics
from retrieval.api.workers import Workers
from retrieval.config import ServeConfig
from retrieval.errors import BusyError, ClientGoneError, RequestError, SlowRequestError
from retrieval.search.request import RetrievalRequest
from retrieval.search.response import Response as Retrieved

# A longer body, or a longer list of results, takes milliseconds to read or write.
_QUICK_BODY_BYTES, _QUICK_RESULTS = 16_384, 100
_SHOWN_CHARACTERS = 200


class RetrievalRoutes:
    """The routes that return ranked items.

    Args:
        state: the served version.
        config: the limits of the server.
        metrics: where retrievals are counted.
        workers: the threads that answer the requests that take longer than a few milliseconds.

    Attributes:
        router: the routes.
        body: the model of the body of `/v1/retrieve`, with this server's limits.
        bodies: the models of the request bodies. These are read raw, so the framework does not document them.
    """

    def __init__(self, state: ServerState, config: ServeConfig, metrics: Metrics, workers: Workers) -> None:
        self._state, self._config, self._metrics, self._workers = state, config, metrics, workers
        self.body = schemas.limited_body(config)
        self.bodies: list[type[BaseModel]] = [self.body]
        self.router = APIRouter()
        self.router.add_api_route(
            "/v1/retrieve",
            self.retrieve,
            methods=["POST"],
            response_model=None,
            responses={200: {"model": schemas.RetrieveResponse}, **schemas.problems(400, 401, 408, 413, 422, 503)},
            openapi_extra=schemas.body_of(self.body),
        )
        self._add_neighbors()

    async def answer(self, scope: Scope, receive: Receive) -> Response:
        """Read the body of a request to `/v1/retrieve` and answer the request.

        A request that takes no longer than a few milliseconds is answered here, at once. All others go to the workers.
        """
        body = await read_body(receive, self._config)
        if isinstance(body, Response):
            return body
        snapshot, outcome = self._state.snapshot, None
        if len(body) <= _QUICK_BODY_BYTES:
            with suppress(SlowRequestError):
                outcome = self._answer(snapshot, body, quick=True)
        if outcome is None:
            try:
                outcome = await self._workers.run(scope, self._answer, snapshot.pinned(), body)
            # The framework's error handlers stand behind this route, so it handles these errors itself.
            except BusyError as error:
                return busy(str(error))
            except ClientGoneError as error:
                return problem(400, str(error))
        response, retrieved, k = outcome
        if retrieved is not None:
            self._metrics.count_retrieval(retrieved, k)
        return response

    def _answer(self, snapshot: Snapshot, raw: bytes, *, quick: bool = False) -> tuple[Response, Retrieved | None, int]:
        """Return (the response to a body, what was retrieved, k); the last two are None and 0 if nothing was.

        Raises:
            SlowRequestError: `quick` is set, and the answer would take longer than a few milliseconds.
        """
        body = parse_query(raw, self._config, self.body)
        if isinstance(body, Response):
            return body, None, 0
        if quick and body.k > _QUICK_RESULTS:
            raise SlowRequestError(f"{body.k} results are to be written")
        request = body.to_request(self._state.now(snapshot))
        try:
            response = snapshot.retriever.retrieve(request, quick=quick)
        except RequestError as error:
            return field_problem(error.field, error.message), None, 0
        answer: dict[str, Any] = {
            "version": snapshot.version,
            "asked": body.k,
            "returned": len(response.items),
            "unknown_items": response.unknown_items,
        }
        if (unknown := snapshot.retriever.unknown_category(request)) is not None:
            answer["unknown_category"] = unknown
        answer["results"] = _result_lines(response)
        return json_response(answer), response, body.k

    async def retrieve(self, request: Request) -> Response:
        """The ads to show next to what a shopper looks at."""
        return await self.answer(request.scope, request.receive)

    def _add_neighbors(self) -> None:
        state, config = self._state, self._config
        responses = {200: {"model": schemas.NeighborsResponse}, **schemas.problems(401, 404, 422, 503)}

        # The second path takes the id as a parameter: clients and proxies resolve `.` and `..` in a path, even escaped.
        @self.router.get("/v1/neighbors", response_model=None, responses=responses)
        @self.router.get("/v1/items/{item_id:path}/neighbors", response_model=None, responses=responses)
        async def neighbors(request: Request, item_id: str, k: int = config.default_k) -> Response:
            """The items nearest to an item in the whole catalogue, advertised or not, each with a reason."""
            if not 1 <= k <= config.max_k:
                return field_problem("k", f"got {k}, expected 1 to {config.max_k}")
            snapshot = state.snapshot
            if known_item(snapshot, item_id, config) is None:
                return unknown_item(snapshot, item_id)
            if k <= _QUICK_RESULTS:
                with suppress(SlowRequestError):
                    return _neighbors(snapshot, item_id, k, quick=True)
            return await self._workers.run(request.scope, _neighbors, snapshot.pinned(), item_id, k)


def known_item(snapshot: Snapshot, item_id: str, config: ServeConfig) -> int | None:
    """Return the row of an item that a path names; None if it is unknown.

    Args:
        snapshot: the version.
        item_id: the id.
        config: an id longer than its `max_id_length` is unknown, because composing a long text (NFC) can take long.
    """
    return snapshot.retriever.catalogue.find(item_id) if len(item_id) <= config.max_id_length else None


def unknown_item(snapshot: Snapshot, item_id: str) -> Response:
    """Return the response to a path that names an unknown item.

    Args:
        snapshot: the version.
        item_id: the id; only the beginning of a long one is repeated.
    """
    return problem(404, f"item {item_id[:_SHOWN_CHARACTERS]!r} is not in the catalogue of version {snapshot.version}")


def _neighbors(snapshot: Snapshot, item_id: str, k: int, *, quick: bool = False) -> Response:
    response = snapshot.retriever.retrieve(RetrievalRequest([item_id], k, all_items=True), quick=quick)
    return json_response(
        {
            "version": snapshot.version,
            "item_id": item_id,
            "asked": k,
            "returned": len(response.items),
            "results": _result_lines(response),
        }
    )


def _result_lines(response: Retrieved) -> list[dict[str, Any]]:
    # The dictionaries are written out: intermediate objects or merges would take a tenth of a request's time.
    columns = zip(response.items, response.ads, response.scores, response.reasons, strict=True)
    lines: list[dict[str, Any]] = [
        {"rank": rank, "item_id": item, "ad_id": ad, "score": score, "reason": reason}
        for rank, (item, ad, score, reason) in enumerate(columns, start=1)
    ]
    if response.stages is not None:
        for line, stages in zip(lines, response.stages, strict=True):
            line["stages"] = stages
    return lines
