"""The server under abuse: how well it still answers a well-behaved client, and how much memory it takes.

    python benchmarks/abuse.py --work DIR [--rows 200000] [--seconds 10] [--only NAME …] [--slack 1.0]
        [--output docs/reliability.md]

The catalogue is generated. A server in a process of its own serves it with the default limits. A well-behaved client,
from 127.0.0.9, keeps one connection open and sends a request every 20 ms; another one asks for `/healthz`. A further
process abuses the server from 127.0.0.2, and from more addresses where an abuse needs several. The exit code is 1 if a
bar is missed.
"""

import argparse
import json
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil
import pyarrow as pa
from _abusers import ABUSES, SIGTERM_CONNECTIONS, Target, get, run
from _cost import loop_seconds
from _page import argument_parser, print_progress, publish
from change_log import write_log
from filters import AS_OF, generate_catalogue
from load import edges, show_progress

from retrieval.api.app import Snapshot, Tokens, create_app
from retrieval.api.server import create_server
from retrieval.catalogue.items import Catalogue
from retrieval.config import RetrievalConfig, ServeConfig
from retrieval.index_folder import IndexContents, build_index, read_index
from retrieval.live.change_log import SqliteChangeLog
from retrieval.search.retriever import Retriever

TEMPLATE = Path(__file__).with_name("reliability.md")
PAUSE = 0.02
# The bars: limits of what a well-behaved client may notice, and of the memory.
TIMES_QUIET, LEAST_MS, MOST_TURNED_AWAY, BACK_SECONDS, TIMES_MEMORY = 5, 50.0, 0.01, 2.0, 1.2
FLOODS = ("256 connections", "2,000 connections", "64 addresses with 2 connections each")
LIMITS = (
    *("max_connections", "max_connections_per_peer", "idle_seconds", "max_head_bytes", "head_seconds"),
    *("max_body_bytes", "body_seconds", "send_seconds", "max_buffered_bytes", "max_in_flight", "max_wait_seconds"),
    *("slow_threads", "max_slow", "max_waiting_writers", "changes_wait_seconds", "drain_seconds", "shutdown_seconds"),
)
BUDGET = RetrievalConfig().scope_cache_bytes
MIB = 2**20


def main() -> int:
    """Build or read the index, serve it, try every abuse and print the page."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--work", type=Path, required=True, help="folder for the index and the logs")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each abuse lasts (default %(default)s)")
    parser.add_argument("--changes", type=int, default=1_000_000, help="entries of the log that a server starts with")
    parser.add_argument("--only", action="append", metavar="NAME", choices=[*ABUSES, "start"], help="can be repeated")
    parser.add_argument("--slack", type=float, default=1.0, help="factor on the bars of time, for busy machines")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    options.work.mkdir(parents=True, exist_ok=True)
    names = options.only or [*ABUSES, "start"]
    folder = index_folder(options)
    rows, missed = abuses(folder, [name for name in names if name in ABUSES], options)
    if "start" in names:
        rows += ["", *starts(folder, options)]
    page = TEMPLATE.read_text(encoding="utf-8")
    command = f"python benchmarks/abuse.py --work DIR --rows {options.rows} --seconds {options.seconds:g} --output …"
    parts = {"command": [command], "limits": limits(), "abuses": rows, "missed": missed or ["All bars are met."]}
    for name, lines in parts.items():
        page = page.replace(f"<!-- {name} -->", "\n".join(lines))
    for line in missed:
        print_progress(line)
    publish(page, options.output)
    return 1 if missed else 0


# --- the server ---


def index_folder(options: argparse.Namespace) -> Path:
    """Return the folder of the index; the index is built if it is missing."""
    folder: Path = options.work / f"index-{options.rows}"
    if not (folder / "meta.json").exists():
        catalogue = generate_catalogue(options.rows, 64)
        ids, draw = pa.array(catalogue.item_ids, pa.string()), np.random.default_rng(4)
        letters = draw.integers(ord("a"), ord("z") + 1, (options.rows, 8), np.uint8)
        attributes = {
            "item_id": ids,
            "category": pa.array([f"c{row % 50}" for row in range(options.rows)]),
            "price": pa.array(100 * draw.random(options.rows)),
            "title": pa.array([" ".join(map(chr, words)) for words in letters]),
        }
        catalogue = replace(catalogue, attributes=pa.table(attributes))
        build_index(
            folder, IndexContents(catalogue, edges(options.rows), ads(catalogue), AS_OF), progress=show_progress
        )
    return folder


def ads(catalogue: Catalogue) -> pa.Table:
    """One ad per item, in 1,000 campaigns of 10 advertisers; six tenths of the ads run in AC, all in AA."""
    draw = np.random.default_rng(2).random(catalogue.n_rows)
    rows = range(catalogue.n_rows)
    return pa.table(
        {
            "ad_id": pa.array([f"a{row:07d}" for row in rows]),
            "item_id": pa.array(catalogue.item_ids, pa.string()),
            "campaign_id": pa.array([f"c{row % 1000}" for row in rows]),
            "advertiser_id": pa.array([f"v{row % 10}" for row in rows]),
            "countries": pa.array([["AA", "AC"] if value < 0.6 else ["AA"] for value in draw.tolist()]),
        }
    )


def serve(folder: Path, log: Path, pipe: Connection) -> None:
    """Serve the index as `lightsage serve` does; send the URL and the seconds of the start, then receive versions."""
    name = ["v0"]
    began = time.perf_counter()

    def load() -> Snapshot:
        index = read_index(folder)
        return Snapshot(name[0], index.as_of, Retriever.of(index))

    def listen() -> None:
        while True:
            try:
                name[0] = pipe.recv()
            except EOFError:  # the benchmark is over
                return

    config = ServeConfig(current_check_seconds=0.5)
    app = create_app(load, lambda: name[0], config, lambda at: at, SqliteChangeLog(log), Tokens(write="abuse"))
    threading.Thread(target=listen, daemon=True).start()
    create_server(app, port=0, on_listening=lambda url: pipe.send((url, time.perf_counter() - began))).run()


@dataclass
class Served:
    """A server in a process of its own: address, process, the pipe that publishes versions, seconds of the start."""

    host: str
    port: int
    process: psutil.Process
    pipe: Connection
    start_seconds: float

    def memory(self) -> int:
        """Return the bytes of the server's memory; of memory shared with other processes, it has only a part (PSS)."""
        return int(self.process.memory_full_info().pss)

    def failures(self) -> float:
        """Return how many requests were answered with 500 so far."""
        text = Client(self, "127.0.0.7").body(get("/metrics")).decode()
        lines = [line for line in text.splitlines() if line.startswith("lightsage_requests_total{")]
        return sum(float(line.split()[-1]) for line in lines if 'status="500"' in line)


@contextmanager
def serving(folder: Path, log: Path) -> Iterator[Served]:
    """Serve until the end of the block."""
    parent, child = get_context("spawn").Pipe()
    server = get_context("spawn").Process(target=serve, args=(folder, log, child), daemon=True)
    server.start()
    url, seconds = parent.recv()
    parts = urlsplit(url)
    try:
        yield Served(str(parts.hostname), int(parts.port or 0), psutil.Process(server.pid), parent, seconds)
    finally:
        server.terminate()
        server.join()


def new_log(options: argparse.Namespace, name: str) -> Path:
    """Return the path for a new log of changes; an earlier log of the same name is deleted."""
    path: Path = options.work / f"{name}.sqlite"
    for old in options.work.glob(f"{name}.sqlite*"):
        old.unlink()
    return path


# --- the well-behaved clients ---


class Client:
    """A connection that is kept open, from an address of this machine."""

    def __init__(self, served: Served, address: str) -> None:
        self._served, self._address = served, address
        self._socket: socket.socket | None = None
        self.status = 0

    def body(self, request: bytes) -> bytes:
        """Send a request and return the body of the answer; `status` is 0 if there was no answer."""
        self.status = 0
        try:
            if self._socket is None:
                target = (self._served.host, self._served.port)
                self._socket = socket.create_connection(target, 10, (self._address, 0))
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.sendall(request)
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += self._received()
            head, _, body = answer.partition(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            while len(body) < length:
                body += self._received()
        except OSError:
            if self._socket is not None:
                self._socket.close()
            self._socket = None
            return b""
        self.status = int(head[9:12])
        if b"\r\nconnection: close" in head.lower():
            self._socket.close()
            self._socket = None
        if self.status != 200:
            print_progress(f"{self._address} got {self.status}: {body[:300]!r}")
        return body

    def _received(self) -> bytes:
        assert self._socket is not None
        received = self._socket.recv(65536)
        if not received:
            raise ConnectionResetError
        return received


@dataclass
class Measured:
    """The measurements: (time of sending, milliseconds, status) of each request, and the server's memory in bytes."""

    requests: list[tuple[float, float, int]] = field(default_factory=list)
    healthz: list[tuple[float, float, int]] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)

    def between(self, begin: float, end: float) -> "Measured":
        """Return the requests that were sent between two times; the memory stays that of all times."""
        requests, healthz = ([r for r in every if begin <= r[0] < end] for every in (self.requests, self.healthz))
        return Measured(requests, healthz, self.memory)

    def p99(self) -> float:
        """Return the 99th percentile of the milliseconds of answered requests."""
        answered = [ms for _, ms, status in self.requests if status == 200]
        return float(np.percentile(answered, 99)) if answered else float("inf")

    def statuses(self) -> Counter[int]:
        """Return the number of requests of each status; 0 stands for no answer."""
        return Counter(status for *_, status in self.requests)


@contextmanager
def measuring(served: Served, items: list[str]) -> Iterator[Measured]:
    """Send well-behaved requests, and measure, until the end of the block."""
    measured, over = Measured(), threading.Event()

    def ask(address: str, requests: Callable[[int], bytes], record: list[tuple[float, float, int]]) -> None:
        client, number = Client(served, address), 0
        while not over.is_set():
            began = time.monotonic()
            client.body(requests(number))
            seconds = time.monotonic() - began
            record.append((began, 1000 * seconds, client.status))
            number += 1
            time.sleep(max(0.0, PAUSE - seconds))

    def look() -> None:
        while not over.wait(0.5):
            measured.memory.append(served.memory())

    def retrieve(number: int) -> bytes:
        body = json.dumps({"items": [items[number % len(items)]], "k": 20, "country": "AC"})
        return f"POST /v1/retrieve HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()

    threads = [
        threading.Thread(target=ask, args=("127.0.0.9", retrieve, measured.requests)),
        threading.Thread(target=ask, args=("127.0.0.8", lambda _: get("/healthz"), measured.healthz)),
        threading.Thread(target=look),
    ]
    for thread in threads:
        thread.start()
    try:
        yield measured
    finally:
        over.set()
        for thread in threads:
            thread.join()


def seconds_until_quiet(measured: Measured, end: float, quiet: float) -> float:
    """Return the seconds from `end` to a half second in which at most one request is slow or not answered with 200.

    Args:
        measured: all requests.
        end: the time at which the abuse ended.
        quiet: the p99 of quiet times, in milliseconds.
    """
    later = [request for request in measured.requests if request[0] >= end]
    n = round(0.5 / PAUSE)
    for first in range(len(later) - n + 1):
        if sum(ms > 1.5 * quiet or status != 200 for _, ms, status in later[first : first + n]) <= 1:
            return later[first][0] - end
    return float("inf")


# --- the abuses ---


def abuses(folder: Path, names: list[str], options: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Try the abuses one after the other on one server; returns rows of the table and missed bars."""
    items = [f"i{row:07d}" for row in np.random.default_rng(5).integers(0, options.rows, 5000)]
    with serving(folder, new_log(options, "abuses")) as served, ProcessPoolExecutor(1, get_context("spawn")) as pool:
        pool.submit(time.sleep, 0.0)  # so that its process begins before the first abuse
        with measuring(served, items):
            time.sleep(3.0)
        with measuring(served, items) as quiet:
            time.sleep(max(5.0, options.seconds))
        memory = served.memory()
        rows = [
            f"Quiet: p99 {quiet.p99():.1f} ms, slowest `/healthz` {max(ms for _, ms, _ in quiet.healthz):.1f} ms, "
            f"{memory / MIB:.0f} MiB. On this host, a loop of 20 million additions in Python takes "
            f"{loop_seconds():.1f} s. Each abuse lasts {options.seconds:g} s on {os.cpu_count()} cores, which the "
            f"server, the abuser and the measuring clients share. {options.rows:,} items with an ad each.",
            "",
            "| abuse | answered | 503 | other answers | cut off | p99 ms of the well-behaved client | its 503 | "
            "slowest `/healthz` ms | back after s | MiB before | at most | after |",
            "|---|" + "---:|" * 11,
        ]
        missed: list[str] = []
        for name in names:
            row, failures = one(name, served, pool, quiet.p99(), memory, (items, options))
            rows.append(row)
            missed += [f"- {name}: {failure}" for failure in failures]
            print_progress("\n".join([row, *failures]))
    return rows, missed


def one(
    name: str,
    served: Served,
    pool: ProcessPoolExecutor,
    quiet: float,
    memory: int,
    rest: tuple[list[str], argparse.Namespace],
) -> tuple[str, list[str]]:
    """Try one abuse; returns its row, and the bars that were missed."""
    items, options = rest
    before, failures_before = served.memory(), served.failures()
    with measuring(served, items) as measured:
        begin = time.monotonic()
        target = Target(served.host, served.port, items, begin + duration(name, options.seconds))
        future = pool.submit(run, name, target)
        if name == "reloads":
            for version in range(round(options.seconds / 2)):
                served.pipe.send(f"v{version + 1}")
                time.sleep(2.0)
        if name == "SIGTERM":
            time.sleep(options.seconds / 2)
            signalled = time.monotonic()
            os.kill(served.process.pid, signal.SIGTERM)
        target = future.result()
        end = time.monotonic()
        latest = end + BACK_SECONDS * options.slack + 2.0
        while name != "SIGTERM" and time.monotonic() < latest:
            time.sleep(0.2)
            if seconds_until_quiet(measured, end, quiet) < BACK_SECONDS * options.slack:
                break
    if name == "SIGTERM":
        return stopped(target, signalled, measured, before)
    under = measured.between(begin, end)
    back = seconds_until_quiet(measured, end, quiet)
    after = served.memory()
    failures = served.failures() - failures_before
    row = table_row(name, target, under, back, (before, max([*measured.memory, after]), after))
    return row, [
        *missed_bars(name, under, back, quiet, options.slack),
        *([f"{failures:.0f} answers with 500"] if failures else []),
        *memory_bar(max([*measured.memory, after]), memory),
    ]


def duration(name: str, seconds: float) -> float:
    """Return how many seconds an abuse lasts at most; the one with 100,000 filters ends by itself, so it gets more."""
    return 30 * seconds if name == "100,000 distinct filters" else seconds


def missed_bars(name: str, under: Measured, back: float, quiet: float, slack: float) -> list[str]:
    """Return the bars of the well-behaved client that were missed."""
    missed, statuses, p99 = [], under.statuses(), under.p99()
    bar = slack * max(TIMES_QUIET * quiet, LEAST_MS)
    if p99 > bar:
        missed.append(f"p99 {p99:.0f} ms > {bar:.0f} ms")
    turned_away = sum(n for status, n in statuses.items() if status != 200)
    if name not in FLOODS and turned_away > max(1, MOST_TURNED_AWAY * slack * len(under.requests)):
        missed.append(f"{turned_away} of {len(under.requests)} requests were not answered with 200: {dict(statuses)}")
    if back > BACK_SECONDS * slack:
        missed.append(f"back to quiet after {back:.1f} s > {BACK_SECONDS * slack:g} s")
    return missed


def memory_bar(most: int, quiet: int) -> list[str]:
    """Return the missed bar of the memory, if any: the caches' budget plus 1.2 times the memory when quiet."""
    bar = BUDGET + TIMES_MEMORY * quiet
    return [f"{most / MIB:.0f} MiB > {bar / MIB:.0f} MiB"] if most > bar else []


def table_row(name: str, target: Target, under: Measured, back: float, memory: tuple[int, int, int]) -> str:
    """Return a row of the table."""
    counts = target.counts
    cut = counts["cut off"] + counts["lost"]
    other = sum(n for status, n in counts.items() if status not in ("200", "503", "cut off", "lost"))
    statuses = under.statuses()
    cells = [
        *(f"{n:,}" for n in (counts["200"], counts["503"], other, cut)),
        f"{under.p99():.1f}",
        f"{statuses[503]} of {len(under.requests)}",
        f"{max(ms for _, ms, _ in under.healthz):.1f}",
        "" if back < 0 else f"{back:.1f}",
        *(f"{n / MIB:.0f}" for n in memory),
    ]
    return f"| {name} | " + " | ".join(cells) + " |"


def stopped(target: Target, signalled: float, measured: Measured, before: int) -> tuple[str, list[str]]:
    """Return the row of the server that was stopped under load, and a missed bar if it lost any earlier request."""
    # Requests that were sent between `signalled` and the signal itself count as sent after it.
    lost = sum(sent < signalled for sent in target.unanswered)
    lost += sum(sent < signalled and status == 0 for sent, _, status in measured.requests)
    under = measured.between(0.0, signalled)
    row = table_row(f"SIGTERM with {SIGTERM_CONNECTIONS} connections", target, under, -1.0, (before, before, before))
    return row, [f"{lost} requests that were sent before the signal were not answered"] if lost else []


def starts(folder: Path, options: argparse.Namespace) -> list[str]:
    """Return the seconds of a start without changes, and of starts with many changes in the log."""
    with serving(folder, new_log(options, "empty")) as served:
        without = served.start_seconds
    path = new_log(options, "million")
    write_log(path, options.changes, options.rows)
    seconds = []
    for _ in range(2):
        with serving(folder, path) as served:
            seconds.append(served.start_seconds)
            time.sleep(5.0)  # the log is compacted meanwhile
    return [
        f"A start takes {without:.1f} s without changes, {seconds[0]:.1f} s with {options.changes:,} changes in the "
        f"log, and {seconds[1]:.1f} s once the log has been compacted."
    ]


def limits() -> list[str]:
    """Return the table of limits."""
    fields, config = ServeConfig.model_fields, ServeConfig()
    rows = [f"| `{name}` | {getattr(config, name):,} | {fields[name].description} |" for name in LIMITS]
    return ["| `[serve]` | default | meaning |", "|---|---:|---|", *rows]


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(main())
