"""HTTP/1.1 on one connection: uvicorn's protocol, with limits on what a client may send and on how long it may take.

A request reaches the app only after all of it has arrived, so a slow or silent client takes no place that others need.
One request is read at a time; the bytes after it on the connection wait until the request is answered.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import Callable
from typing import Any

import httptools
from fastapi import Response
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from retrieval.api.connections import Connections, Phase, peer_of
from retrieval.api.problem import busy, problem
from retrieval.api.request_queue import RequestQueue
from retrieval.api.workers import EXTENSION
from retrieval.config import ServeConfig

# A connection whose request was turned away is not read for a while. The pause grows with the number of connections, so
# that about a thousand such requests are answered each second, however many clients send them. More would take all of
# the server's time.
_PAUSE_SECONDS_PER_CONNECTION, _LEAST_PAUSE_SECONDS, _LARGEST_PAUSE_SECONDS = 0.001, 0.2, 2.0
# Monitoring must reach the server even while other requests are turned away.
_ALWAYS_BEGUN = ("/healthz", "/readyz", "/metrics")
_MAX_HEADERS = 100
_DROP = struct.pack("ii", 1, 0)
_NO_REQUEST = "this is no valid HTTP/1.1 request"
_REQUEST_LINE = re.compile(rb"(?:\r\n)*[A-Z]+ [!-~\x80-\xff]+ HTTP/1\.[01]\r?\n")
# The server speaks HTTP/1.1 only, so an offer to go on with another protocol is ignored, as RFC 9110 allows.
_UPGRADE = re.compile(rb"^upgrade[ \t]*:.*\r\n", re.IGNORECASE | re.MULTILINE)
_LENGTH = re.compile(rb"^content-length[ \t]*:[ \t]*(\d{1,18})[ \t]*\r$", re.IGNORECASE | re.MULTILINE)
# The framing of a body in chunks may take this many times the body's size, plus `max_head_bytes`.
_CHUNKED_OVERHEAD = 2
# Bytes of a body in chunks that are parsed before the size of the framing is checked.
_PARSED_AT_ONCE = 16_384
# Pause after each read from a client that was refused, because it may go on sending without end.
_LINGER_PAUSE_SECONDS = 0.05


class _AppFlow(FlowControl):
    """The flow control that the app gets. It never resumes reading: only the connection itself does that."""

    def resume_reading(self) -> None:
        """Do nothing."""


class Connection(HttpToolsProtocol):
    """One connection of a client.

    Args:
        connections: all connections of the server, and their limits.
        queue: where requests that have arrived wait for their turn.
        limits: the limits of one request.
        uvicorn: the arguments that uvicorn passes to its protocols.
    """

    def __init__(self, connections: Connections, queue: RequestQueue, limits: ServeConfig, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self._all, self._queue, self._limits = connections, queue, limits
        self.peer = ""
        self.held = 0
        self.arrived = 0.0
        self._phase = Phase.IDLE
        # The phase that `Connections` knows. It stays IDLE while a request that arrived in one piece is answered.
        self._listed = Phase.IDLE
        self._buffer = b""  # the beginning of a head, or the bytes after the request that is being answered
        self._body = bytearray()
        self._is_blocked = False
        self._wire_bytes = 0
        self._in_head = False
        self._when_closed: Callable[[], object] | None = None

    # --- the connection ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take in the connection, or refuse it if there are too many."""
        super().connection_made(transport)
        self._app_flow = _AppFlow(transport)
        self.peer = peer_of(self.client)
        if (why := self._all.add(self)) is not None:
            self._all.metrics.turned_away.inc()
            self.refuse(503, why)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._all.remove(self)
        self._tell_closed()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Answer a request that has arrived whole, although the client sends no more; refuse an unfinished one."""
        if self._phase is Phase.APP:
            self.cycle.keep_alive = False
            self._tell_closed()
            return True
        if self._phase in (Phase.HEAD, Phase.BODY):
            self.refuse(400, "the connection was closed before the request had arrived")
            self.close()
        return False

    def when_closed(self, call: Callable[[], object]) -> None:
        """Call a function if the client closes the connection, or its side of it, before the request is answered."""
        self._when_closed = call

    def _tell_closed(self) -> None:
        if self._when_closed is not None:
            self._when_closed()

    def pause_writing(self) -> None:
        """Begin no further request until the client has taken most of the answers.

        The app need not wait for this: its output is kept, within the limit on all answers that were not taken yet.
        """
        self._is_blocked = True
        self._all.watch_unsent(self)

    def resume_writing(self) -> None:
        """Go on with the next request."""
        self._is_blocked = False
        if self._phase is Phase.IDLE:
            self._read_on()

    def unsent(self) -> int:
        """Return the number of bytes that the client has not taken yet."""
        return 0 if self.transport.is_closing() and self.parser is None else self.transport.get_write_buffer_size()

    def close(self) -> None:
        """Close once all that was written is sent."""
        self.transport.close()

    def abort(self) -> None:
        """Close at once, and let the system drop what the client has not taken."""
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DROP)
        self.transport.abort()

    def shutdown(self) -> None:
        """Close the connection if it has no request, else after its last answer."""
        if self._phase is Phase.IDLE:
            self.transport.close()
        elif self._phase is Phase.APP and not self._buffer:
            self.cycle.keep_alive = False

    @property
    def is_busy(self) -> bool:
        """Whether a request waits for its turn or is being answered."""
        return self._phase is Phase.APP

    def _enter(self, phase: Phase) -> None:
        self._all.enter(self, self._listed, phase)
        self._phase = self._listed = phase

    # --- reading ---

    def data_received(self, data: bytes) -> None:
        """Take in bytes from the client."""
        if self._phase is Phase.LINGERING:
            self.flow.pause_reading()
            self.loop.call_later(_LINGER_PAUSE_SECONDS, self._drop_more)
        elif self._phase is Phase.BODY:
            self._read_body(data)
        elif self._phase is Phase.APP:
            self.flow.pause_reading()
            self._buffer += data
            self._all.hold(self, self.held + len(data))
        else:
            self._read_head(self._buffer + data if self._buffer else data)

    def _drop_more(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def _read_head(self, data: bytes) -> None:
        end = data.find(b"\r\n\r\n") + 4
        if end > self._limits.max_head_bytes or (end < 4 and len(data) > self._limits.max_head_bytes):
            self.refuse(431, f"the head of the request is larger than {self._limits.max_head_bytes} bytes")
            return
        if end < 4:
            if b"\n" in data.lstrip(b"\r\n") and not _REQUEST_LINE.match(data):
                self.send_400_response(_NO_REQUEST)
                return
            self._buffer = data
            self._all.hold(self, len(data))
            if self._phase is Phase.IDLE and data.strip(b"\r\n"):
                self._enter(Phase.HEAD)
            return
        if not _REQUEST_LINE.match(data):
            self.send_400_response(_NO_REQUEST)
            return
        self._buffer = b""
        if self.held:
            self._all.hold(self, 0)
        self._body, self._wire_bytes, self._in_head = bytearray(), 0, True
        length = _LENGTH.search(data, 0, end)
        self._remaining = int(length[1]) if length else None
        self._phase = Phase.BODY
        head, whole = data[:end], end + (self._remaining or 0)
        if b"pgrade" in head or b"PGRADE" in head:
            head = _UPGRADE.sub(b"", head)
        elif length and len(data) >= whole and whole - end <= self._limits.max_body_bytes:  # as nearly always
            head, end, self._remaining = data[:whole], whole, 0
        self._feed(head)
        if self._phase is Phase.BODY and self._in_head:
            self.send_400_response(_NO_REQUEST)
        elif self._phase is Phase.BODY:
            self._expect_body()
        if end < len(data) and not self.transport.is_closing():
            self.data_received(data[end:])

    def _expect_body(self) -> None:
        self._enter(Phase.BODY)
        if self._remaining is not None and self._remaining > self._limits.max_body_bytes:
            self._refuse_size()
        elif self.cycle.waiting_for_100_continue:
            self.cycle.waiting_for_100_continue = False
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _read_body(self, data: bytes) -> None:
        rest = b""
        if self._remaining is not None:
            data, rest = data[: self._remaining], data[self._remaining :]
            self._remaining -= len(data)
            self._feed(data)
            if self._phase is Phase.BODY:
                self._all.hold(self, self.held + len(data))
        else:
            self._read_chunks(data)
        if rest:
            self.data_received(rest)

    def _read_chunks(self, data: bytes) -> None:
        for begin in range(0, len(data), _PARSED_AT_ONCE):
            part = data[begin : begin + _PARSED_AT_ONCE]
            self._wire_bytes += len(part)
            self._feed(part)
            if self._phase is not Phase.BODY:
                if begin + len(part) < len(data):  # bytes right after the last chunk are not read
                    self.cycle.keep_alive = False
                return
            if self._wire_bytes > self._limits.max_head_bytes + (1 + _CHUNKED_OVERHEAD) * len(self._body):
                self.refuse(413, "the chunks of the body take far more bytes than the body itself")
                return
        self._all.hold(self, len(self._body))

    def _refuse_size(self) -> None:
        self.refuse(413, f"the body is larger than {self._limits.max_body_bytes} bytes")

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            if self._phase is Phase.BODY:
                self.send_400_response(_NO_REQUEST)
        except httptools.HttpParserUpgrade:
            self.send_400_response("this server opens no tunnels")

    # --- what the parser finds ---

    def on_message_begin(self) -> None:
        """Begin a request. One that follows a body in chunks at once is not read; the connection closes instead."""
        if self._in_head:
            super().on_message_begin()
        else:
            self.cycle.keep_alive = False

    def on_url(self, url: bytes) -> None:
        """Take in a part of the URL."""
        if self._in_head:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take in a header. Fields after the body (trailers) are ignored."""
        if self._in_head:
            name = name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Prepare the request; `on_message_complete` hands it on."""
        if not self._in_head or self._phase is not Phase.BODY:
            return
        self._in_head = False
        if len(self.headers) > _MAX_HEADERS:
            self.refuse(431, f"the request has more than {_MAX_HEADERS} headers")
        else:
            super().on_headers_complete()
            self.cycle.flow = self._app_flow
            self.scope["extensions"] = {EXTENSION: {"connection": self}}

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._app = app

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body."""
        if self._phase is Phase.BODY:
            self._body += body
            if len(self._body) > self._limits.max_body_bytes:
                self._refuse_size()

    def on_message_complete(self) -> None:
        """Let the request wait for its turn, unless it comes from monitoring."""
        if self._phase is not Phase.BODY:
            return
        self.cycle.body, self.cycle.more_body = self._body, False
        self.cycle.message_event.set()
        if self._all.stopping:
            self.cycle.keep_alive = False
        self._phase = Phase.APP
        if self._listed is not Phase.IDLE:
            self._enter(Phase.APP)
        if self.scope["path"] in _ALWAYS_BEGUN:
            self.begin()
        else:
            self.arrived = self.loop.time()
            self._queue.add(self)

    # --- answering ---

    def begin(self) -> None:
        """Hand the request to the app, unless its client has gone."""
        if self.transport.is_closing():
            return
        if self.held:
            self._all.hold(self, len(self._buffer))
        task = self.loop.create_task(self.cycle.run_asgi(self._app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def on_response_complete(self) -> None:
        """Go on with what the client has sent meanwhile, or wait for its next request."""
        self._when_closed = None
        self.server_state.total_requests += 1
        if self.transport.get_write_buffer_size():
            self._all.watch_unsent(self)
        if self.transport.is_closing() or self._phase is not Phase.APP:
            return
        self._enter(Phase.IDLE)
        if self._is_blocked:
            self.flow.pause_reading()
        elif self._buffer:
            self.loop.call_soon(self._read_on)
        else:
            self.flow.resume_reading()

    def _read_on(self) -> None:
        """Read the bytes that came before the last answer was sent, then those that come now."""
        if self._phase is Phase.IDLE and not self._is_blocked and not self.transport.is_closing():
            data, self._buffer = self._buffer, b""
            self._all.hold(self, 0)
            self.data_received(data)
            if not self.transport.is_closing() and not self._is_full():
                self.flow.resume_reading()

    def _is_full(self) -> bool:
        """Return whether enough is read for now: a request that is being answered, and the beginning of the next."""
        return self._phase is Phase.APP and bool(self._buffer)

    def turn_away(self) -> None:
        """Answer 503, and read the client's next request a little later."""
        self._all.metrics.turned_away.inc()
        if self.transport.is_closing():
            return
        detail = f"{len(self._queue)} requests wait or are being answered; try again later"
        self._write(busy(detail), self.cycle.keep_alive)
        self.cycle.response_complete = True
        if self.cycle.keep_alive:
            self.flow.pause_reading()
            pause = min(
                max(_LEAST_PAUSE_SECONDS, _PAUSE_SECONDS_PER_CONNECTION * len(self._all)), _LARGEST_PAUSE_SECONDS
            )
            self.loop.call_later(pause, self.on_response_complete)
        else:
            self.transport.close()

    def refuse(self, status: int, detail: str) -> None:
        """Answer with an error, and close once the client has had time to read it; drop what comes until then."""
        if self._phase is Phase.LINGERING or self.transport.is_closing():
            return
        if self.cycle is not None:
            self.cycle.response_complete = True
        self._write(busy(detail) if status == 503 else problem(status, detail), keep_alive=False)
        self._enter(Phase.LINGERING)
        self._buffer, self._body = b"", bytearray()
        self._all.hold(self, 0)
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def send_400_response(self, msg: str) -> None:
        """Answer that this is not a valid request."""
        self.refuse(400, msg)

    def _write(self, response: Response, keep_alive: bool) -> None:
        headers = [*self.server_state.default_headers, *response.raw_headers]
        if not keep_alive:
            headers.append((b"connection", b"close"))
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[response.status_code] + lines + b"\r\n" + bytes(response.body))

    def _unset_keepalive_if_required(self) -> None:
        """Do nothing: `Connections` closes idle connections."""
