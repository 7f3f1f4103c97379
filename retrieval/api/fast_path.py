"""The fast path: `POST /v1/retrieve` is answered in front of the framework, which would add half to its cost.

Bodies are read raw and validated here, for that route and for all others. `python benchmarks/request_overhead.py`
measures what the fast path saves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import TypeVar

from fastapi import Response
from pydantic import BaseModel, ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from retrieval.api.problem import problem, validation_problem
from retrieval.config import ServeConfig

Model = TypeVar("Model", bound=BaseModel)


class FastRoute:
    """An ASGI layer that answers POST requests to one path itself and passes all others on.

    The app has the same route, which documents it.
    """

    def __init__(self, app: ASGIApp, path: str, answer: Callable[[Receive], Awaitable[Response]]) -> None:
        self._app, self._path, self._answer = app, path, answer
        self._route = SimpleNamespace(path=path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http" or scope["path"] != self._path or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope["route"] = self._route
        response = await self._answer(receive)
        await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
        await send({"type": "http.response.body", "body": response.body})


async def read_model(receive: Receive, config: ServeConfig, model: type[Model]) -> Model | Response:
    """Read and validate a request's body.

    Args:
        receive: the ASGI channel of the request.
        config: the limits on the body's size and time.
        model: the pydantic model of the body.

    Returns:
        The model, or the response to send if the body is not valid.
    """
    body = await read_body(receive, config)
    if isinstance(body, Response):
        return body
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        return validation_problem(error)


async def read_body(receive: Receive, config: ServeConfig) -> bytes | Response:
    """Read a request's body, and stop as soon as it exceeds a limit.

    Args:
        receive: the ASGI channel of the request.
        config: the limits on the body's size and time.

    Returns:
        The body, or the response to send if it is too large, too slow or incomplete.
    """
    try:
        async with asyncio.timeout(config.body_seconds):
            return await _assemble(receive, config.max_body_bytes)
    except TimeoutError:
        return problem(408, f"the body did not arrive within {config.body_seconds:g} s")


async def _assemble(receive: Receive, max_bytes: int) -> bytes | Response:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return problem(400, "the client disconnected before its body had arrived")
        body += message.get("body", b"")
        if len(body) > max_bytes:
            return problem(413, f"the body is larger than {max_bytes} bytes")
        if not message.get("more_body"):
            return bytes(body)
