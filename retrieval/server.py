"""Runs the API on a real socket: one process, one event loop, one FAISS thread."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from .ann import use_threads
from .config import ServeConfig

_log = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """uvicorn that says where it listens, as port 0 leaves the choice to the system."""

    def __init__(self, config: uvicorn.Config, on_listening: Callable[[str], None] | None = None) -> None:
        super().__init__(config)
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and report the URL once connections are taken."""
        await super().startup(sockets=sockets)
        if not self.started:
            return
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        _log.info("listening on %s", url)
        if self._on_listening:
            self._on_listening(url)


def create_server(
    app: FastAPI,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    config: ServeConfig | None = None,
    on_listening: Callable[[str], None] | None = None,
) -> Server:
    """A server that is not yet running; `run()` blocks until a signal stops it, and lets running requests end."""
    # A second thread on one query makes it slower, and requests are answered one after the other anyway.
    use_threads(1)
    settings = uvicorn.Config(
        app,
        host=host,
        port=port,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=(config or ServeConfig()).shutdown_seconds,
    )
    return Server(settings, on_listening)
