"""Raw connections: what clients may send, how long they may take, and which requests a stopping server answers."""

import contextlib
import json
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from retrieval.api import page_routes
from retrieval.api.app import Snapshot, create_app
from retrieval.api.server import create_server
from retrieval.config import ServeConfig
from tests.retrieval.conftest import until

BODY = json.dumps({"items": ["item00001"], "k": 5}).encode()


@pytest.fixture
def serving(world: SimpleNamespace, retriever) -> Any:
    """Return a function that serves the small shop with given limits, as a context that yields (host, port)."""

    @contextlib.contextmanager
    def run(**limits: Any) -> Iterator[tuple[str, int]]:
        config = ServeConfig(**limits)
        app = create_app(
            lambda: Snapshot("v1", world.AS_OF, retriever), lambda: "v1", config, clock=lambda as_of: as_of
        )
        with world.serving(app) as url:
            parts = urlsplit(url)
            yield str(parts.hostname), int(parts.port or 0)

    return run


def retrieve(*headers: bytes, body: bytes = BODY, length: int | None = None) -> bytes:
    length = len(body) if length is None else length
    lines = [b"POST /v1/retrieve HTTP/1.1", b"Host: x", b"Content-Length: %d" % length]
    return b"\r\n".join([*lines, *headers, b"", body])


def answer(connection: socket.socket) -> tuple[int, dict[str, str], Any]:
    """Read one answer: its status, headers and body."""
    connection.settimeout(20)
    head, body = b"", b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        assert byte, f"closed after {head!r}"
        head += byte
    line, *lines = head.decode().rstrip().split("\r\n")
    headers = {name.lower(): value for name, value in (header.split(": ", 1) for header in lines)}
    while len(body) < int(headers["content-length"]):
        body += connection.recv(int(headers["content-length"]) - len(body))
    return int(line.split()[1]), headers, json.loads(body)


def is_closed(connection: socket.socket) -> bool:
    connection.settimeout(20)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def sent(address: tuple[str, int], *parts: bytes, pause: float = 0.02) -> socket.socket:
    """Return a connection on which these parts were sent one by one."""
    connection = socket.create_connection(address, timeout=20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for number, part in enumerate(parts):
        if number:
            time.sleep(pause)
        connection.sendall(part)
    return connection


def refusal(address: tuple[str, int], *parts: bytes) -> tuple[int, str]:
    """Send these bytes; return status and detail of the problem in the answer, and check that the connection closes."""
    with sent(address, *parts) as connection:
        status, headers, body = answer(connection)
        assert headers["content-type"] == "application/problem+json"
        assert headers["connection"] == "close"
        assert body["status"] == status
        assert is_closed(connection)
    return status, body["detail"]


def is_quick(address: tuple[str, int]) -> bool:
    """Return whether a request of a well-behaved client is answered within a second."""
    begin = time.monotonic()
    with sent(address, retrieve()) as connection:
        assert answer(connection)[0] == 200
    return time.monotonic() - begin < 1.0


def test_a_request_that_comes_byte_by_byte_is_answered(serving) -> None:
    request = retrieve(b"Expect: 100-continue")
    with serving() as address, sent(address, *(bytes([byte]) for byte in request), pause=0.0005) as connection:
        connection.settimeout(20)
        assert connection.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert answer(connection)[0] == 200


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_requests_that_come_all_at_once_are_answered_in_their_order(serving, cut: int) -> None:
    requests = b"".join(retrieve(body=json.dumps({"items": ["item00001"], "k": k}).encode()) for k in range(1, 31))
    requests += b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with serving() as address, sent(address, requests[:-cut], requests[-cut:]) as connection:
        assert [answer(connection)[2]["asked"] for _ in range(30)] == list(range(1, 31))
        assert answer(connection)[2] == {"status": "ok"}


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket", b"TLS/1.2"])
def test_an_offer_of_another_protocol_is_ignored_and_the_body_is_read(serving, upgrade: bytes) -> None:
    offer = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + upgrade, b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIA")
    request = retrieve(*offer)
    for parts in ([request], [request[:90], request[90:]]):
        with serving() as address, sent(address, *parts) as connection:
            status, _, body = answer(connection)
            assert (status, body["asked"]) == (200, 5)
            connection.sendall(retrieve())
            assert answer(connection)[0] == 200


def test_a_body_in_chunks_is_read_and_its_trailers_are_no_headers(serving) -> None:
    head = b"POST /v1/retrieve HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"".join(b"1\r\n%b\r\n" % bytes([byte]) for byte in BODY) + b"0\r\n"
    with serving() as address:
        with sent(address, head, chunks, b"Authorization: Bearer x\r\nX-Request-ID: fake\r\n\r\n") as connection:
            status, headers, _ = answer(connection)
            assert status == 200
            assert headers.get("x-request-id") != "fake"
            connection.sendall(retrieve())
            assert answer(connection)[0] == 200
        with sent(address, head + chunks + b"\r\n" + retrieve()) as connection:
            assert answer(connection)[1]["connection"] == "close", "what follows chunks at once is not read"


def test_a_client_that_sends_no_more_still_gets_its_answer(serving) -> None:
    with serving() as address, sent(address, retrieve()) as connection:
        connection.shutdown(socket.SHUT_WR)
        assert answer(connection)[0] == 200
        assert is_closed(connection)


def test_what_takes_long_is_not_begun_for_a_client_that_has_gone(serving, monkeypatch) -> None:
    begun, go_on, explained = list[str](), threading.Event(), page_routes.explain.results

    def slow(retriever: Any, request: Any) -> Any:
        begun.extend(request.items)
        assert go_on.wait(20)
        return explained(retriever, request)

    def explain(number: int) -> socket.socket:
        return sent(address, retrieve(body=b'{"items": ["item%05d"]}' % number).replace(b"retrieve", b"explain"))

    def is_full() -> bool:
        with explain(9) as connection:
            return bool(select.select([connection], [], [], 0.2)[0]) and answer(connection)[0] == 503

    monkeypatch.setattr(page_routes.explain, "results", slow)
    with serving(slow_threads=1, max_slow=4) as address, explain(1) as first, explain(2) as second, explain(3) as third:
        with explain(4) as fourth:
            until(lambda: begun == ["item00001"])
            until(is_full)
            second.shutdown(socket.SHUT_WR)
            assert answer(second)[0] == 400
            until(lambda: not is_full())
            fourth.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # to reset it
        until(lambda: not is_full())
        go_on.set()
        assert (answer(first)[0], answer(third)[0]) == (200, 200)
    assert begun == ["item00001", "item00003"]


@pytest.mark.parametrize(
    ("parts", "status", "detail"),
    [
        ([b"hello\r\n"], 400, "no valid HTTP/1.1 request"),
        ([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"], 400, "HTTP/1.1"),
        ([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], 400, "HTTP/1.1"),
        ([b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n"], 400, ""),
        ([b"GET /healthz HTTP/1.1\r\nHost : x\r\n\r\n"], 400, "HTTP/1.1"),
        ([b"GET /healthz HTTP/1.1\r\nHo"], 408, "head of the request did not arrive within 0.5 s"),
        ([retrieve(body=b"{", length=100)], 408, "body of the request did not arrive within 0.5 s"),
        ([b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\n\r\n"], 431, "larger than 32768 bytes"),
        ([b"GET / HTTP/1.1\r\n", *[b"X: %b\r\n" % (b"y" * 9000)] * 4], 431, "larger than 32768 bytes"),
        ([b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 101 + b"\r\n"], 431, "more than 100 headers"),
        ([retrieve(body=b"", length=5001)], 413, "larger than 5000 bytes"),
        ([retrieve(b"Expect: 100-continue", body=b"", length=10**17)], 413, "larger than 5000 bytes"),
        ([b"POST /v1/retrieve HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"1389\r\n" + b"x" * 5001], 413, "5000"),
        ([b"POST /v1/retrieve HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;" + b"x" * 50_000], 413, "chunks"),
        (
            [b"POST /v1/retrieve HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 30_000],
            413,
            "5000",
        ),
        (
            [b"POST /v1/retrieve HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\n" + b"a: b\r\n" * 20_000],
            413,
            "chunks",
        ),
        ([retrieve(b"Transfer-Encoding: chunked")], 400, "HTTP/1.1"),
        ([retrieve(b"Content-Length: 7")], 400, "HTTP/1.1"),
    ],
)
def test_what_is_no_request_or_too_large_or_too_slow_is_refused(serving, parts, status: int, detail: str) -> None:
    with serving(head_seconds=0.5, body_seconds=0.5, max_body_bytes=5000) as address:
        answered = refusal(address, *parts)
        assert (answered[0], detail in answered[1]) == (status, True), answered
        assert is_quick(address)


def test_clients_that_send_no_body_or_read_no_answer_hold_nobody_up(serving) -> None:
    with serving(max_in_flight=2, send_seconds=0.5, max_k=1000) as address, contextlib.ExitStack() as stack:
        silent = [stack.enter_context(sent(address, retrieve(body=b"", length=100))) for _ in range(64)]
        deaf = []
        for _ in range(8):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            connection.connect(address)
            connection.settimeout(0.5)
            with contextlib.suppress(TimeoutError, ConnectionError):  # the server reads no more
                connection.sendall(b"GET /page.js HTTP/1.1\r\nHost: x\r\n\r\n" * 2000)
            deaf.append(connection)
        assert is_quick(address)
        until(lambda: all(map(is_cut_off, deaf)))
        silent[0].sendall(BODY.rjust(100))
        assert answer(silent[0])[0] == 200


def is_cut_off(connection: socket.socket) -> bool:
    """Return whether the server has cut off a connection, without reading from it."""
    poll = select.poll()
    poll.register(connection, select.POLLERR)
    return bool(poll.poll(0))


def test_idle_connections_are_closed_and_make_room_for_others(serving) -> None:
    with serving(idle_seconds=0.5) as address, sent(address) as connection, sent(address, retrieve()) as used:
        assert answer(used)[0] == 200
        begin = time.monotonic()
        assert is_closed(connection)
        assert is_closed(used)
        assert time.monotonic() - begin < 10
    with serving(max_connections=3) as address, contextlib.ExitStack() as stack:
        idle = [stack.enter_context(sent(address, retrieve())) for _ in range(3)]
        assert [answer(connection)[0] for connection in idle] == [200] * 3
        assert is_quick(address)
        assert is_closed(idle[0])
        idle[1].sendall(retrieve())
        assert answer(idle[1])[0] == 200


def test_a_peer_has_a_number_of_connections_of_its_own(serving) -> None:
    with serving(max_connections_per_peer=3) as address, contextlib.ExitStack() as stack:
        first = [stack.enter_context(sent(address, retrieve())) for _ in range(3)]
        assert [answer(connection)[0] for connection in first] == [200] * 3
        status, detail = refusal(address, retrieve())
        assert (status, detail) == (503, "127.0.0.1 has 3 connections, which is the limit")
        other = stack.enter_context(socket.create_connection(address, source_address=("127.0.0.9", 0)))
        other.sendall(retrieve())
        assert answer(other)[0] == 200


def test_unfinished_requests_hold_a_bounded_number_of_bytes(serving) -> None:
    with serving(max_buffered_bytes=1_000_000, max_body_bytes=400_000) as address, contextlib.ExitStack() as stack:
        slow = []
        for _ in range(3):
            slow.append(stack.enter_context(sent(address, retrieve(body=b" " * 390_000, length=400_000))))
            time.sleep(0.1)
        status, headers, body = answer(slow[0])
        assert (status, headers["retry-after"]) == (503, "1")
        assert "fill the memory" in body["detail"]
        for connection in slow[1:]:
            connection.sendall(BODY.rjust(10_000))
            assert answer(connection)[0] == 200


def test_requests_that_are_sent_ahead_by_deaf_clients_take_no_memory_from_others(serving) -> None:
    with serving(max_buffered_bytes=1_000_000) as address, contextlib.ExitStack() as stack:
        good = stack.enter_context(sent(address))
        for _ in range(20):
            connection = stack.enter_context(socket.create_connection(address))
            connection.settimeout(0.2)
            with contextlib.suppress(TimeoutError, ConnectionError):  # the server reads no more
                connection.sendall(b"GET /page.js HTTP/1.1\r\nHost: x\r\n\r\n" * 30_000)
            good.sendall(retrieve())
            assert answer(good)[0] == 200


def test_every_request_that_was_sent_before_the_signal_to_stop_is_answered(world, retriever) -> None:
    config = ServeConfig(drain_seconds=4.0)
    app = create_app(lambda: Snapshot("v1", world.AS_OF, retriever), lambda: "v1", config, clock=lambda as_of: as_of)
    urls: list[str] = []
    server = create_server(app, port=0, on_listening=urls.append)
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: bool(urls))
    address = ("127.0.0.1", int(urls[0].rpartition(":")[2]))
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(sent(address, retrieve() * 3)) for _ in range(80)]
        idle = stack.enter_context(sent(address, retrieve()))
        assert answer(idle)[0] == 200
        server.should_exit = True
        assert [[answer(connection)[0] for _ in range(3)] for connection in connections] == [[200] * 3] * 80
        until(lambda: httpx.get(f"{urls[0]}/readyz").status_code == 503)
        idle.sendall(retrieve())
        status, headers, _ = answer(idle)
        assert (status, headers["connection"]) == (200, "close"), "while it drains, the server answers, then closes"
        thread.join(20)
        assert not thread.is_alive()
        assert all(is_closed(connection) for connection in connections)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
