"""The hot path: one route that is answered in front of the framework, whose own work would double its cost.

Bodies are read raw and checked here, for that route and for all others.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Generator
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from fastapi import Response
from pydantic import BaseModel, ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retrieval.api.problem import of_validation, problem
from retrieval.config import ServeConfig

Model = TypeVar("Model", bound=BaseModel)


class Shortcut:
    """An ASGI layer that answers POST requests to one path itself, and passes all others on.

    The app has the same route, which documents it.
    """

    def __init__(self, app: ASGIApp, path: str, answer: Callable[[Receive], Awaitable[Response]]) -> None:
        self._app, self._path, self._answer = app, path, answer
        self._route = SimpleNamespace(path=path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on."""
        if scope["type"] != "http" or scope["path"] != self._path or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope["route"] = self._route
        response = await self._answer(receive)
        await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
        await send({"type": "http.response.body", "body": response.body})


async def read_model(receive: Receive, config: ServeConfig, model: type[Model]) -> Model | Response:
    """The body as a model, or what to answer if it is none."""
    raw = await read_body(receive, config)
    if isinstance(raw, Response):
        return raw
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        return of_validation(error)


async def read_body(receive: Receive, config: ServeConfig) -> bytes | Response:
    """The body, or what to answer if it is larger or slower than the limits; it is never read further than that."""
    deadline = asyncio.get_running_loop().time() + config.body_seconds
    message = await _next(receive, config.body_seconds)
    if message is not None and message["type"] == "http.request" and not message.get("more_body"):
        raw: bytes = message.get("body", b"")
        return raw if len(raw) <= config.max_body_bytes else _too_large(config)
    parts = bytearray()
    while message is not None:
        if message["type"] == "http.disconnect":
            return problem(400, "the client went away before its body had arrived")
        parts += message.get("body", b"")
        if len(parts) > config.max_body_bytes:
            return _too_large(config)
        if not message.get("more_body"):
            return bytes(parts)
        message = await _next(receive, deadline - asyncio.get_running_loop().time())
    return problem(408, f"the body did not arrive within {config.body_seconds:g} s")


async def _next(receive: Receive, seconds: float) -> Message | None:
    """The next message, None if it does not come in time."""
    coming = receive().__await__()
    try:
        waits_for = next(coming)
    except StopIteration as arrived:  # most bodies are there already, and need no clock
        return cast("Message", arrived.value)
    try:
        async with asyncio.timeout(seconds):
            return await _going_on(coming, waits_for)
    except TimeoutError:
        return None


@types.coroutine
def _going_on(coming: Generator[Any, Any, Message], waits_for: Any) -> Generator[Any, Any, Message]:
    """The rest of an awaitable that has begun to wait for something."""
    try:
        while True:
            try:
                yield waits_for
            except BaseException as error:
                waits_for = coming.throw(error)
            else:
                waits_for = next(coming)
    except StopIteration as arrived:
        return cast("Message", arrived.value)


def _too_large(config: ServeConfig) -> Response:
    return problem(413, f"the body is larger than {config.max_body_bytes} bytes")
