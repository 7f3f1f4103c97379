"""Clients that abuse a server, over raw sockets from addresses of their own; the server's answers are counted."""

import asyncio
import itertools
import json
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

ADDRESS = "127.0.0.2"
SIGTERM_CONNECTIONS = 80
_FAILURES = (OSError, EOFError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)


@dataclass
class Target:
    """The server to abuse, and for how long.

    Args:
        host: the server's address.
        port: the server's port.
        items: ids that exist.
        until: when to stop, by `time.monotonic()`.
        counts: answers by status; `lost` and `cut off` count connections that were closed.
        unanswered: the times at which the requests without an answer were sent.
    """

    host: str
    port: int
    items: list[str]
    until: float
    counts: Counter[str] = field(default_factory=Counter)
    unanswered: list[float] = field(default_factory=list)

    def goes_on(self) -> bool:
        """Return whether there is still time."""
        return time.monotonic() < self.until


Abuse = Callable[[Target], Awaitable[None]]


def run(name: str, target: Target) -> Target:
    """Abuse a server until the time is over; returns the target with its counts."""

    async def work() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, target.until - time.monotonic()) + 0.2):
                await ABUSES[name](target)

    asyncio.run(work())
    return target


def post(path: str, body: object, *headers: str) -> bytes:
    """Return a request with a JSON body."""
    content = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(content)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + content


def get(path: str) -> bytes:
    """Return a request without a body."""
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def plain(target: Target) -> Iterator[bytes]:
    """Requests for ads like those of a well-behaved client."""
    draw = random.Random(os.getpid())
    while True:
        yield post("/v1/retrieve", {"items": [draw.choice(target.items)], "k": 20, "country": "AC"})


@asynccontextmanager
async def connected(
    target: Target, address: str = ADDRESS
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a connection from an address of this machine; close it at once at the end of the block."""
    reader, writer = await asyncio.open_connection(target.host, target.port, local_addr=(address, 0))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def read_answer(reader: asyncio.StreamReader) -> str:
    """Read one answer; returns its status."""
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
    return head[9:12].decode()


async def one_after_the_other(target: Target, requests: Iterator[bytes], address: str = ADDRESS) -> None:
    """Send each request as soon as the one before is answered; open a new connection if the last one was lost."""
    while target.goes_on():
        sent: float | None = None
        try:
            async with connected(target, address) as (reader, writer):
                while target.goes_on():
                    request = next(requests, None)
                    if request is None:
                        return
                    writer.write(request)
                    sent = time.monotonic()
                    target.counts[await read_answer(reader)] += 1
                    sent = None
        except _FAILURES:
            target.counts["lost"] += 1
            if sent is not None:
                target.unanswered.append(sent)
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:  # the time is over
            if sent is not None:
                target.unanswered.append(sent)
            raise


def flood(connections: int, requests: Callable[[Target], Iterator[bytes]] = plain) -> Abuse:
    """Return an abuse: a number of connections, each of which sends request after request."""

    async def work(target: Target) -> None:
        every = requests(target)
        await asyncio.gather(*(one_after_the_other(target, every) for _ in range(connections)))

    return work


def pour(
    connections: int, head: bytes, chunk: bytes = b"", pause: float = 0.0, reads: bool = True, addresses: int = 1
) -> Abuse:
    """Return an abuse: connections that send a head, and then the same chunk for ever; without a chunk, they wait.

    Args:
        connections: the number of connections; a connection that is closed is opened again.
        head: the bytes that are sent first.
        chunk: the bytes that are sent again and again.
        pause: seconds between two chunks.
        reads: whether the server's answers are read.
        addresses: the number of addresses from which the connections come.
    """

    async def one(target: Target, address: str) -> None:
        while target.goes_on():
            with suppress(*_FAILURES):
                async with connected(target, address) as (reader, writer):
                    if not reads:
                        reader._transport.pause_reading()  # type: ignore[attr-defined]
                    sending = asyncio.create_task(_send(target, writer, head, chunk, pause))
                    try:
                        if reads:
                            await _count_until_closed(target, reader)
                        else:
                            await sending
                    finally:
                        sending.cancel()
            target.counts["cut off"] += 1
            await asyncio.sleep(0.05)

    async def work(target: Target) -> None:
        last = ADDRESS.rpartition(".")[0]
        every = (one(target, f"{last}.{2 + number % addresses}") for number in range(connections))
        await asyncio.gather(*every)

    return work


async def _send(target: Target, writer: asyncio.StreamWriter, head: bytes, chunk: bytes, pause: float) -> None:
    with suppress(*_FAILURES):
        writer.write(head)
        while target.goes_on():
            if chunk:
                writer.write(chunk)
                await writer.drain()
            await asyncio.sleep(pause if chunk else 0.2)


async def _count_until_closed(target: Target, reader: asyncio.StreamReader) -> None:
    while True:
        target.counts[await read_answer(reader)] += 1


async def byte_by_byte(target: Target) -> None:
    """64 clients that send their requests one byte every 10 ms."""

    async def one() -> None:
        for request in plain(target):
            with suppress(*_FAILURES):
                async with connected(target) as (reader, writer):
                    for byte in request:
                        writer.write(bytes([byte]))
                        await asyncio.sleep(0.01)
                    target.counts[await read_answer(reader)] += 1
            if not target.goes_on():
                return

    await asyncio.gather(*(one() for _ in range(64)))


async def churn(target: Target) -> None:
    """16 clients that open a connection for each request."""

    async def one() -> None:
        for request in plain(target):
            await one_after_the_other(target, iter([request]))
            if not target.goes_on():
                return

    await asyncio.gather(*(one() for _ in range(16)))


async def peers(target: Target) -> None:
    """64 addresses, each with two connections."""
    every = plain(target)
    names = [f"127.0.1.{number}" for number in range(1, 65)]
    await asyncio.gather(*(one_after_the_other(target, every, name) for name in names + names))


def distinct_filters(target: Target) -> Iterator[bytes]:
    """Up to 100,000 requests, no two of which have the same filters: made-up categories, times, and prices."""
    for number in range(100_000):
        body: dict[str, object] = {"items": [target.items[number % len(target.items)]], "k": 20, "country": "AC"}
        if number % 4 == 0:
            minutes = number // 4
            body["at"] = f"2026-01-{1 + minutes // 1440:02d}T{minutes // 60 % 24:02d}:{minutes % 60:02d}:00Z"
        elif number % 4 == 1:
            body["filters"] = {"category": f"c{number % 50}", "price_max": 1000.0 + number}
        else:
            body["filters"] = {"category": f"made up {number}"}
        yield post("/v1/retrieve", body)


def large(path: str, **body: object) -> Callable[[Target], Iterator[bytes]]:
    """Return a function that gives requests with k = 1000."""

    def requests(target: Target) -> Iterator[bytes]:
        for number in itertools.count():
            yield post(path, {"items": [target.items[number % len(target.items)]], "k": 1000, "country": "AA", **body})

    return requests


def many_words(target: Target) -> Iterator[bytes]:
    """Requests for completions of 250 words, which differ each time."""
    draw = random.Random(1)
    while True:
        yield get("/v1/items?q=" + "+".join(draw.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(250)))


def wrong_bodies(target: Target) -> Iterator[bytes]:
    """Requests of a megabyte each, with 330,000 numbers where ids belong."""
    return itertools.repeat(post("/v1/retrieve", {"items": [1] * 330_000}))


def campaign_batches(target: Target) -> Iterator[bytes]:
    """Batches that change 1,000 campaigns each."""
    for version in itertools.count(1):
        status = "paused" if version % 2 else "active"
        changes = [{"campaign_id": f"c{number}", "version": version, "status": status} for number in range(1000)]
        yield post("/v1/changes", {"changes": changes}, "Authorization: Bearer abuse")


_HEAD = b"POST /v1/retrieve HTTP/1.1\r\nHost: x\r\n"
_CHUNKED = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
_BODY = json.dumps({"items": ["i0000001"], "k": 1000, "reasons": False}).encode()
_RETRIEVE = _HEAD + b"Content-Length: %d\r\n\r\n" % len(_BODY) + _BODY
ABUSES: dict[str, Abuse] = {
    "1 connection": flood(1),
    "16 connections": flood(16),
    "256 connections": flood(256),
    "2,000 connections": flood(2000),
    "a connection for each request": churn,
    "64 addresses with 2 connections each": peers,
    "64 clients that send no body": pour(64, _HEAD + b"Content-Length: 100\r\n\r\n"),
    "64 clients that read no page": pour(64, b"", get("/page.js") * 100, reads=False),
    "64 clients that read no ads": pour(64, b"", _RETRIEVE * 100, reads=False),
    "an endless head": pour(16, b"GET /", b"x" * 65536),
    "endless headers": pour(16, b"GET / HTTP/1.1\r\n", b"a: b\r\n" * 10_000),
    "endless trailers": pour(16, _CHUNKED + b"0\r\n", b"a: b\r\n" * 10_000),
    "endless chunk extensions": pour(16, _CHUNKED + b"1;", b"x" * 65536),
    "a head of one byte each second": pour(64, b"GET / HTTP/1.1\r\n", b"x", pause=1.0),
    "requests sent byte by byte": byte_by_byte,
    "2,000 idle connections": pour(2000, b"", addresses=2),
    "100,000 distinct filters": flood(16, distinct_filters),
    "explanations with k = 1000": flood(16, large("/v1/explain")),
    "caps that cannot be filled": flood(16, large("/v1/retrieve", filters={"max_per_advertiser": 1})),
    "completions of 250 words": flood(16, many_words),
    "bodies of a megabyte that are wrong": flood(16, wrong_bodies),
    "batches of 1,000 changes of campaigns": flood(1, campaign_batches),
    "reloads": flood(4),
    "SIGTERM": flood(SIGTERM_CONNECTIONS),
}
