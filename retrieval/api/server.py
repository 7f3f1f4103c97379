"""The API on a real socket: one process, one event loop, one FAISS thread."""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import uvicorn
from fastapi import FastAPI

from retrieval.ann.faiss_index import use_threads
from retrieval.api.connections import Connections
from retrieval.api.protocol import Connection
from retrieval.api.request_queue import RequestQueue
from retrieval.config import ServeConfig
from retrieval.errors import AddressError

_log = logging.getLogger(__name__)
_ADVICE = "give another --port (0 = any free one) or --host"
_READING_SECONDS = 0.1
_CHECK_SECONDS = 0.1
_OTHER_FILES = 256


class Server(uvicorn.Server):
    """A uvicorn server that reports its URL once it listens; if the port is 0, the system has chosen one by then."""

    def __init__(
        self,
        config: uvicorn.Config,
        connections: Connections,
        drain_seconds: float,
        on_listening: Callable[[str], None] | None = None,
        on_stop: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(config)
        self._connections, self._drain_seconds = connections, drain_seconds
        self._on_listening, self._on_stop = on_listening, on_stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and report the URL once connections are accepted.

        Raises:
            AddressError: another server has taken the port since it was bound.
        """
        try:
            await super().startup(sockets=sockets)
        except OSError as error:
            raise AddressError(f"cannot listen: {error.strerror or error}; {_ADVICE}") from error
        if not self.started:
            return
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        _log.info("listening on %s", url)
        if self._on_listening:
            self._on_listening(url)

    async def on_tick(self, counter: int) -> bool:
        """Close connections that have waited too long; uvicorn calls this ten times a second."""
        self._connections.check()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer the requests that have arrived, then call `on_stop`; uvicorn then raises the signal to stop again.

        For `drain_seconds`, connections are still accepted, but each is closed after its answer. Until all are closed,
        slow clients are cut off as before.
        """
        self._connections.stopping = True
        checking = asyncio.create_task(self._keep_checking())
        # Requests in the buffers of the system were sent before the signal, so they are read first.
        await asyncio.sleep(max(self._drain_seconds, _READING_SECONDS))
        await super().shutdown(sockets=sockets)
        checking.cancel()
        if self._on_stop:
            self._on_stop()

    async def _keep_checking(self) -> None:
        while True:
            self._connections.check()
            await asyncio.sleep(_CHECK_SECONDS)


def bind(host: str, port: int) -> list[socket.socket]:
    """Bind a socket to every address of a host, for `Server.run`; until that runs, they refuse connections.

    Args:
        host: a host name or address of this machine.
        port: the port; 0 lets the system choose one.

    Raises:
        AddressError: the port is taken, or the host is not an address of this machine.
    """
    bound: list[socket.socket] = []
    unavailable: OSError | None = None
    try:
        for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            try:
                bound.append(_bind_one(family, address))
            except OSError as error:
                # A name may stand for an address that this machine lacks, such as ::1 where IPv6 is off.
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                unavailable = error
        if unavailable and not bound:
            raise unavailable
    except OSError as error:
        for bound_socket in bound:
            bound_socket.close()
        raise AddressError(f"cannot listen on {host}, port {port}: {error.strerror or error}; {_ADVICE}") from error
    return bound


def _bind_one(family: int, address: Any) -> socket.socket:
    bound_socket = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound_socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound_socket.bind(address)
    except OSError:
        bound_socket.close()
        raise
    return bound_socket


def create_server(
    app: FastAPI,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    on_listening: Callable[[str], None] | None = None,
    on_stop: Callable[[], None] | None = None,
) -> Server:
    """Return a server that does not run yet; its `run()` blocks until a signal stops it.

    Args:
        app: the application to serve, from `create_app`.
        host: the address to listen on.
        port: the port; 0 lets the system choose one.
        on_listening: called with the URL once connections are accepted.
        on_stop: called once the last running request has ended.
    """
    # A second thread makes a single query slower, and the event loop answers requests one after the other anyway.
    use_threads(1)
    config: ServeConfig = app.state.config
    _allow_files(config.max_connections + _OTHER_FILES)
    connections: Connections = app.state.connections
    queue = RequestQueue(config.max_in_flight, config.max_wait_seconds)
    new_connection: Any = partial(Connection, connections, queue, config)
    settings = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=new_connection,
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=config.shutdown_seconds,
    )
    server = Server(settings, connections, config.drain_seconds, on_listening, on_stop)
    queue.begun = server.server_state.tasks
    return server


def _allow_files(n: int) -> None:
    """Raise the number of files that this process may open, because each connection counts as one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= n:
        return
    possible = n if hard == resource.RLIM_INFINITY else min(n, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    if possible < n:
        _log.warning("this process may open only %d files: set [serve] max_connections lower than that", possible)
