"""The routes that retrieve: `POST /v1/retrieve`, which the fast path answers, and an item's nearest neighbours."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from starlette.types import Receive

from retrieval.api import schemas
from retrieval.api.fast_path import read_model
from retrieval.api.problem import field_problem, json_response, problem
from retrieval.api.state import ServerState
from retrieval.api.telemetry import Metrics
from retrieval.config import ServeConfig
from retrieval.errors import RequestError
from retrieval.search.request import RetrievalRequest
from retrieval.search.response import Response as Retrieved


class RetrievalRoutes:
    """The routes that return ranked items.

    Attributes:
        router: the routes.
        body: the model of the body of `/v1/retrieve`, with this server's limits.
        bodies: the models of the request bodies, which are read raw and therefore not documented by the framework.
    """

    def __init__(self, state: ServerState, config: ServeConfig, metrics: Metrics) -> None:
        self._state, self._config, self._metrics = state, config, metrics
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

    async def answer(self, receive: Receive) -> Response:
        """Read the body of `/v1/retrieve` from an ASGI channel and answer it."""
        body = await read_model(receive, self._config, self.body)
        if isinstance(body, Response):
            return body
        snapshot = self._state.snapshot
        request = body.to_request(self._state.now(snapshot))
        try:
            response = snapshot.retriever.retrieve(request)
        except RequestError as error:
            return field_problem(error.field, error.message)
        self._metrics.count_retrieval(response, body.k)
        answer: dict[str, Any] = {
            "version": snapshot.version,
            "asked": body.k,
            "returned": len(response.items),
            "unknown_items": response.unknown_items,
        }
        if (unknown := snapshot.retriever.unknown_category(request)) is not None:
            answer["unknown_category"] = unknown
        answer["results"] = _result_lines(response)
        return json_response(answer)

    async def retrieve(self, request: Request) -> Response:
        """The ads to show next to what a shopper looks at."""
        return await self.answer(request.receive)

    def _add_neighbors(self) -> None:
        state, config = self._state, self._config
        responses = {200: {"model": schemas.NeighborsResponse}, **schemas.problems(401, 404, 422, 503)}

        # The second path takes ids that a path cannot hold: clients and proxies resolve `.` and `..`, escaped or not.
        @self.router.get("/v1/neighbors", response_model=None, responses=responses)
        @self.router.get("/v1/items/{item_id:path}/neighbors", response_model=None, responses=responses)
        async def neighbors(item_id: str, k: int = config.default_k) -> Response:
            """The items nearest to an item in the whole catalogue, advertised or not, each with a reason."""
            if not 1 <= k <= config.max_k:
                return field_problem("k", f"got {k}, expected 1 to {config.max_k}")
            snapshot = state.snapshot
            row = snapshot.retriever.catalogue.find(item_id)
            if row is None:
                return problem(404, f"item {item_id!r} is not in the catalogue of version {snapshot.version}")
            response = snapshot.retriever.retrieve(RetrievalRequest([item_id], k, all_items=True))
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
