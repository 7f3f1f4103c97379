"""Threads for requests that would hold up the event loop for too long."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from starlette.types import Scope

from retrieval.ann.faiss_index import use_threads
from retrieval.api.telemetry import Metrics
from retrieval.config import ServeConfig
from retrieval.errors import BusyError, ClientGoneError

T = TypeVar("T")

# With Python's default, the event loop would wait up to 5 ms each time that a worker computes.
_SWITCH_INTERVAL = 0.0005


EXTENSION = "lightsage"
"""The extension of an ASGI scope that holds the request's `connection`, a `Closable`."""


class Closable(Protocol):
    """What `Workers` needs of a connection."""

    def when_closed(self, call: Callable[[], object]) -> None:
        """Call a function if the client closes the connection, or its side of it, before the request is answered."""
        ...


class Workers:
    """A few threads for one kind of request. Further requests wait for a thread, up to a limit.

    A request whose client has gone waits no longer.

    Args:
        config: the number of threads, and the largest number of requests that may run or wait.
        metrics: where rejected requests are counted.
        name: the name of the threads.
    """

    def __init__(self, config: ServeConfig, metrics: Metrics, name: str) -> None:
        self._most, self._metrics = config.max_slow, metrics
        self._pool = ThreadPoolExecutor(config.slow_threads, name, initializer=_begin)
        self._taken = 0

    async def run(self, scope: Scope, function: Callable[..., T], *arguments: object) -> T:
        """Call a function in one of the threads, and return what it returns.

        Args:
            scope: the ASGI scope of the request.
            function: the function that answers the request.
            *arguments: the arguments of the function.

        Raises:
            BusyError: too many requests run or wait.
            ClientGoneError: the client has gone before a thread was free.
        """
        if self._taken >= self._most:
            self._metrics.turned_away.inc()
            detail = f"{self._taken} requests that take long are being answered, which is the limit; try again later"
            raise BusyError(detail)
        self._taken += 1
        answer = self._pool.submit(function, *arguments)
        connection: Closable | None = scope.get("extensions", {}).get(EXTENSION, {}).get("connection")
        if connection is not None:
            connection.when_closed(answer.cancel)  # this does nothing once the function has begun
        try:
            return await asyncio.wrap_future(answer)
        except asyncio.CancelledError:
            if not answer.cancelled():
                raise
            raise ClientGoneError("the client closed the connection before it was answered") from None
        finally:
            self._taken -= 1

    def close(self) -> None:
        """Let the threads end."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _begin() -> None:
    # One thread each for FAISS and BLAS, so that no worker waits for another.
    use_threads(1)
    sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_INTERVAL))
