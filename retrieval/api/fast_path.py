"""Answers `POST /v1/retrieve` in front of the framework, which would raise the cost of a request by half.

This is the fast path. Bodies are read raw and validated here, for that route and for all others. A request reaches the
app only when its whole body has arrived (see `protocol`), so nothing here waits for a body.
`python benchmarks/request_overhead.py` measures the savings.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from itertools import islice
from types import SimpleNamespace
from typing import TypeVar

from fastapi import Response
from pydantic import BaseModel, ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from retrieval.api.problem import problem, validation_problem
from retrieval.config import ServeConfig

Model = TypeVar("Model", bound=BaseModel)

MOST_KEYS = 200
"""A body with more keys than this is wrong, because only about thirty keys exist."""
_UNCHECKED_BYTES = 4096
_KEY = re.compile(rb'"\s*:')


class FastRoute:
    """An ASGI layer that answers POST requests to one path itself and passes all others on.

    The app has the same route too, so that the API documentation lists it.
    """

    def __init__(self, app: ASGIApp, path: str, answer: Callable[[Scope, Receive], Awaitable[Response]]) -> None:
        self._app, self._path, self._answer = app, path, answer
        self._route = SimpleNamespace(path=path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http" or scope["path"] != self._path or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope["route"] = self._route
        response = await self._answer(scope, receive)
        await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
        await send({"type": "http.response.body", "body": response.body})


async def read_model(receive: Receive, config: ServeConfig, model: type[Model]) -> Model | Response:
    """Read and validate a request's body.

    Args:
        receive: the ASGI channel of the request.
        config: the limit on the body's size.
        model: the pydantic model of the body.

    Returns:
        The model, or the response to send if the body is not valid.
    """
    body = await read_body(receive, config)
    return body if isinstance(body, Response) else validated(model, body)


def validated(model: type[Model], body: bytes) -> Model | Response:
    """Return a body as its model, or the response to send if it is not valid.

    Args:
        model: the pydantic model of the body.
        body: the body, as JSON.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        return validation_problem(error)


def parse_query(body: bytes, config: ServeConfig, model: type[Model]) -> Model | Response:
    """Validate the body of a request for ads; do not parse it if it has far more keys or values than a valid one.

    Listing a wrong field takes about 5 µs, and a body of one megabyte has room for 90,000 wrong fields.

    Args:
        body: JSON.
        config: the limits on the lists in the body.
        model: the pydantic model of the body.

    Returns:
        The model, or the response to send if the body is not valid.
    """
    if len(body) > _UNCHECKED_BYTES:
        if sum(1 for _ in islice(_KEY.finditer(body), MOST_KEYS + 1)) > MOST_KEYS:
            return problem(422, f"the body has more than {MOST_KEYS} keys; /docs lists the keys that exist")
        # Ids may contain commas, so a valid body may have many more commas than its lists have places.
        most_commas = 10 * (config.max_items + 3 * config.max_exclude + MOST_KEYS)
        if body.count(b",") > most_commas:
            return problem(422, f"the body has more than {most_commas} commas, so that its lists are too long")
    return validated(model, body)


async def read_body(receive: Receive, config: ServeConfig) -> bytes | Response:
    """Read a request's body, and stop as soon as it exceeds a limit.

    Args:
        receive: the ASGI channel of the request.
        config: the limit on the body's size.

    Returns:
        The body, or the response to send if it is too large or incomplete.
    """
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return problem(400, "the client disconnected before its body had arrived")
        body += message.get("body", b"")
        if len(body) > config.max_body_bytes:
            return problem(413, f"the body is larger than {config.max_body_bytes} bytes")
        if not message.get("more_body"):
            return bytes(body)
