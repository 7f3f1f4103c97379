"""Threads for requests that would hold up the event loop for too long."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from retrieval.ann.faiss_index import use_threads
from retrieval.api.telemetry import Metrics
from retrieval.config import ServeConfig
from retrieval.errors import BusyError

T = TypeVar("T")

# With Python's default, the event loop would wait up to 5 ms each time that a worker computes.
_SWITCH_INTERVAL = 0.0005


class Workers:
    """A few threads for one kind of request. Further requests wait for a thread, up to a limit.

    Args:
        config: the number of threads, and of requests that may run or wait.
        metrics: where rejected requests are counted.
        name: the name of the threads.
    """

    def __init__(self, config: ServeConfig, metrics: Metrics, name: str) -> None:
        self._most, self._metrics = config.max_slow, metrics
        self._pool = ThreadPoolExecutor(config.slow_threads, name, initializer=_begin)
        self._taken = 0

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Call a function in one of the threads, and return what it returns.

        Raises:
            BusyError: too many requests run or wait.
        """
        if self._taken >= self._most:
            self._metrics.turned_away.inc()
            detail = f"{self._taken} requests that take long are being answered, which is the limit; try again later"
            raise BusyError(detail)
        self._taken += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)
        finally:
            self._taken -= 1

    def close(self) -> None:
        """Let the threads end."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _begin() -> None:
    # One thread each for FAISS and BLAS, so that no worker waits for another.
    use_threads(1)
    sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_INTERVAL))
