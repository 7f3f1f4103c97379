"""Runs the API on a real socket: one process, one event loop, one FAISS thread."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI

from retrieval.ann.faiss_index import use_threads
from retrieval.config import ServeConfig
from retrieval.errors import AddressError

_log = logging.getLogger(__name__)
_WAY_OUT = "give another --port (0 = any free one) or --host"


class Server(uvicorn.Server):
    """uvicorn that says where it listens, as port 0 leaves the choice to the system."""

    def __init__(
        self,
        config: uvicorn.Config,
        on_listening: Callable[[str], None] | None = None,
        on_stop: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(config)
        self._on_listening, self._on_stop = on_listening, on_stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and report the URL once connections are taken.

        Raises:
            AddressError: another server took the port since it was bound.
        """
        try:
            await super().startup(sockets=sockets)
        except OSError as error:
            raise AddressError(f"cannot listen: {error.strerror or error}; {_WAY_OUT}") from error
        if not self.started:
            return
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        _log.info("listening on %s", url)
        if self._on_listening:
            self._on_listening(url)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let running requests end; after this the signal that asked for it is raised again, and ends the process."""
        await super().shutdown(sockets=sockets)
        if self._on_stop:
            self._on_stop()


def bind(host: str, port: int) -> list[socket.socket]:
    """Sockets for every address of the host, to give to `Server.run`; they refuse connections until it runs.

    Raises:
        AddressError: the port is taken, or the host is none of this machine's.
    """
    bound: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            try:
                bound.append(_bound(family, address))
            except OSError as error:
                # A name may stand for an address that this machine lacks, such as ::1 where IPv6 is off.
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error
        if missing and not bound:
            raise missing
    except OSError as error:
        for listening in bound:
            listening.close()
        raise AddressError(f"cannot listen on {host}, port {port}: {error.strerror or error}; {_WAY_OUT}") from error
    return bound


def _bound(family: int, address: Any) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(address)
    except OSError:
        listening.close()
        raise
    return listening


def create_server(
    app: FastAPI,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    config: ServeConfig | None = None,
    on_listening: Callable[[str], None] | None = None,
    on_stop: Callable[[], None] | None = None,
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
        proxy_headers=False,
        timeout_graceful_shutdown=(config or ServeConfig()).shutdown_seconds,
    )
    return Server(settings, on_listening, on_stop)
