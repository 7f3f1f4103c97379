"""The API under load over real sockets: latency, CPU per request within and beyond the search, and a soak test.

    python benchmarks/load.py --work DIR [--rows 1000000] [--connections 16] [--seconds 60] [--soak MINUTES]
        [--output TABLE.md]

The catalogue is generated: a million advertised items, 64 dimensions, 30 edges per item, and ads that run in some
countries. `lightsage`'s own server serves the catalogue in a process of its own. Each client keeps a connection open
and sends the next request when the last is answered.
"""

import argparse
import asyncio
import json
import os
import random
import selectors
import sys
import threading
import time
from collections.abc import Coroutine
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import psutil
import pyarrow as pa
from _cost import loop_seconds
from _page import argument_parser, print_progress, publish
from filters import AS_OF, generate_catalogue

from retrieval.api.app import Snapshot, Tokens, create_app
from retrieval.api.connections import Connections
from retrieval.api.server import create_server
from retrieval.api.telemetry import Metrics
from retrieval.arrays import Rows
from retrieval.catalogue.edges import Edges
from retrieval.catalogue.items import Catalogue
from retrieval.config import ServeConfig
from retrieval.index_folder import IndexContents, build_index, read_index
from retrieval.live.change_log import SqliteChangeLog
from retrieval.ranking.embedding_ranker import EmbeddingRanker, PreparedQuery
from retrieval.search.planner import SearchPlanner
from retrieval.search.retriever import Retriever

K = 20
TOKEN = "load"


def main() -> int:
    """Build or read the index, serve it, measure every load and print the page."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--work", type=Path, required=True, help="folder for the index")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--soak", type=float, default=0.0, metavar="MINUTES", help="add a soak test with reloads")
    options = parser.parse_args()
    folder = options.work / f"index-{options.rows}"
    if not (folder / "meta.json").exists():
        catalogue = generate_catalogue(options.rows, 64)
        contents = IndexContents(catalogue, edges(options.rows), ads(catalogue), AS_OF)
        build_index(folder, contents, progress=show_progress)
    parent, child = get_context("spawn").Pipe()
    arguments = (folder, options.work / "changes.sqlite", child)
    server = get_context("spawn").Process(target=serve, args=arguments, daemon=True)
    server.start()
    url = parent.recv()
    process = psutil.Process(server.pid)
    items = [f"i{row:07d}" for row in np.random.default_rng(5).integers(0, options.rows, 5000)]
    lines = [
        "# The API under load",
        "",
        f"`python benchmarks/load.py --work DIR --soak 10 --output …`, on {os.cpu_count()} cores.",
        "",
        f"The catalogue has {options.rows:,} items with an ad each. Every request asks for k = {K} results without "
        "reasons. *CPU µs a request* is the CPU time that the whole server process takes per request. *Search* is the "
        "part spent on finding candidates (direct neighbours included) and on ranking them; *beyond it* is all the "
        "rest, such as reading the request and writing the answer. *An empty app* always gives the same answer, so it "
        "shows the cost of the socket alone. The clients run on the same cores, so a request costs more than it would "
        "if the server ran alone.",
        "",
        "| eligible | index | plan | requests/s | p50 ms | p99 ms | not 200 | CPU µs a request | search | beyond it |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for country, eligible in (("AB", "10%"), ("AC", "60%"), ("AA", "100%")):
        bodies = requests(items, country)
        result = on_a_core(apply_load(url, bodies, options.connections, options.seconds, process, parent))
        lines.append(row(eligible, result))
        print_progress(lines[-1])
    lines.append(row("an empty app", load_on_empty_app(options, requests(items, "AA"))))
    lines += [
        "",
        f"Each load has {options.connections} connections and lasts {options.seconds:g} s; that on the empty app lasts "
        f"5 s. On this host, a loop of 20 million additions in Python took {loop_seconds():.1f} s with nothing else "
        "running.",
    ]
    if options.soak:
        bodies = requests(items, "AB")
        lines += ["", *soak_test(url, bodies, options, process, parent)]
    page = "\n".join(lines) + "\n"
    server.terminate()
    return publish(page, options.output)


def requests(items: list[str], country: str) -> list[bytes]:
    """The bodies of the requests, one per item."""
    return [json.dumps({"items": [item], "k": K, "country": country, "reasons": False}).encode() for item in items]


def edges(n: int, per_item: int = 30) -> Edges:
    """Edges of three types to items whose numbers are close."""
    rng = np.random.default_rng(3)
    indptr = np.arange(0, n * per_item + 1, per_item, dtype=np.int64)
    dst = (np.repeat(np.arange(n), per_item) + rng.integers(1, 400, n * per_item)) % n
    kind = np.tile(np.arange(per_item) % 3, n)
    return Edges(indptr, dst.astype(np.int32), kind.astype(np.uint8), rng.random(n * per_item, np.float32),
                 ("co_search", "strong_click", "swing"), 0.05)  # fmt: skip


def ads(catalogue: Catalogue) -> pa.Table:
    """One ad per item: a tenth of the ads run in AB, six tenths in AC, all in AA."""
    draw = np.random.default_rng(2).random(catalogue.n_rows)
    ids = pa.array(catalogue.item_ids, pa.string())
    countries_by_draw = (["AA", "AB", "AC"], ["AA", "AC"], ["AA"])
    countries = pa.array([countries_by_draw[(value >= 0.1) + (value >= 0.6)] for value in draw.tolist()])
    campaigns = pa.array([f"c{row % 1000}" for row in range(catalogue.n_rows)])
    return pa.table({"ad_id": ids, "item_id": ids, "campaign_id": campaigns, "countries": countries})


def serve(folder: Path, changes: Path, pipe: Connection) -> None:
    """Run the server as `lightsage serve` does; the pipe sends new versions, and asks for the cost of searches."""
    changes.unlink(missing_ok=True)
    name = ["v0"]

    def load() -> Snapshot:
        index = read_index(folder)
        return Snapshot(name[0], index.as_of, Retriever.of(index))

    app = create_app(
        load,
        lambda: name[0],
        ServeConfig(current_check_seconds=1.0),
        lambda as_of: as_of,
        SqliteChangeLog(changes),
        Tokens(write=TOKEN),
    )
    server = create_server(app, port=0, on_listening=pipe.send)
    cost = measure_searches()

    def listen() -> None:
        while True:
            try:
                command, argument = pipe.recv()
            except EOFError:  # the load is over
                return
            if command == "cost":
                pipe.send(dict(cost))
            else:
                name[0] = argument

    threading.Thread(target=listen, daemon=True).start()
    server.run()


def load_on_empty_app(options: argparse.Namespace, bodies: list[bytes]) -> dict[str, Any]:
    """Put the same load on an app that always gives the same answer, to measure the cost of the socket alone."""
    parent, child = get_context("spawn").Pipe()
    server = get_context("spawn").Process(target=serve_empty_app, args=(child,), daemon=True)
    server.start()
    process = psutil.Process(server.pid)
    result = on_a_core(apply_load(parent.recv(), bodies, options.connections, 5.0, process, parent))
    server.terminate()
    return result


def serve_empty_app(pipe: Connection) -> None:
    """Answer every request with the same body of the usual size."""
    result = {"rank": 10, "item_id": "i0000000", "ad_id": "i0000000", "score": 0.123456, "reason": None}
    answer = json.dumps({"version": "v0", "asked": K, "returned": K, "results": [result] * K}).encode()

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await receive()
        if scope["type"] == "lifespan":
            await send({"type": "lifespan.startup.complete"})
            await receive()
            return
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    def listen() -> None:
        with suppress(EOFError):  # the other end has gone
            while pipe.recv():
                pipe.send({"seconds": 0.0, "searches": 0, "index": "", "plan": ""})

    threading.Thread(target=listen, daemon=True).start()
    config = ServeConfig()
    served: Any = app
    served.state = SimpleNamespace(config=config, connections=Connections(config, Metrics()))
    create_server(served, port=0, on_listening=pipe.send).run()


def measure_searches() -> dict[str, Any]:
    """Return a record of all searches from now on: their CPU seconds and number, and the index and plan of the last."""
    record: dict[str, Any] = {"seconds": 0.0, "searches": 0, "index": "", "plan": ""}
    prepare, best = EmbeddingRanker.prepare, SearchPlanner.search

    def measured_prepare(self: EmbeddingRanker, views: Rows) -> PreparedQuery:
        record["seconds"] -= time.thread_time()
        prepared = prepare(self, views)
        record["seconds"] += time.thread_time()
        return prepared

    def measured_best(self: SearchPlanner, *args: Any, **kwargs: Any) -> Any:
        record["seconds"] -= time.thread_time()
        try:
            selection = best(self, *args, **kwargs)
        finally:
            record["seconds"] += time.thread_time()
        record["searches"] += 1
        assert self.ann is not None
        record["index"], record["plan"] = f"{self.ann.kind}, recall@100 {self.ann.recall:.3f}", selection[1]
        return selection

    EmbeddingRanker.prepare, SearchPlanner.search = measured_prepare, measured_best  # type: ignore[method-assign]
    return record


class Polling(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """A selector that never sleeps, so that the server does not pay for waking the clients."""

    def select(self, timeout: float | None = None) -> list[Any]:
        """Return the events that are ready now."""
        ready: list[Any] = super().select(0)
        return ready


def on_a_core(work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """Run clients that keep one core busy."""
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(Polling())) as runner:
        return runner.run(work)


async def client(
    url: str, bodies: list[bytes], until: float, latencies: list[float], wrong: list[int], seed: int
) -> None:
    """One connection that sends its next request as soon as the last is answered."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    draw = random.Random(seed)
    head = f"POST /v1/retrieve HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: "
    while (began := time.perf_counter()) < until:
        body = draw.choice(bodies)
        writer.write(f"{head}{len(body)}\r\n\r\n".encode() + body)
        header = await reader.readuntil(b"\r\n\r\n")
        length = int(header.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        latencies.append(time.perf_counter() - began)
        if not header.startswith(b"HTTP/1.1 200"):
            wrong.append(int(header.split()[1]))
    writer.close()


async def apply_load(
    url: str, bodies: list[bytes], connections: int, seconds: float, process: psutil.Process, pipe: Connection
) -> dict[str, Any]:
    """Apply a load; returns latencies, and the server's CPU per request."""

    def search_cost() -> dict[str, Any]:
        pipe.send(("cost", None))
        return dict(pipe.recv())

    await asyncio.gather(*(client(url, bodies, time.perf_counter() + 3, [], [], n) for n in range(connections)))
    latencies, wrong = list[float](), list[int]()
    search = search_cost()
    before, began = sum(process.cpu_times()[:2]), time.perf_counter()
    until = began + seconds
    await asyncio.gather(*(client(url, bodies, until, latencies, wrong, n) for n in range(connections)))
    wall, cpu = time.perf_counter() - began, sum(process.cpu_times()[:2]) - before
    now, (p50, p99) = search_cost(), np.percentile(latencies, [50, 99])
    return now | {
        "search": 1e6 * (now["seconds"] - search["seconds"]) / max(1, now["searches"] - search["searches"]),
        "connections": connections,
        "seconds": wall,
        "requests": len(latencies),
        "rate": len(latencies) / wall,
        "p50": 1e3 * p50,
        "p99": 1e3 * p99,
        "cpu": 1e6 * cpu / len(latencies),
        "wrong": len(wrong),
    }


def row(eligible: str, result: dict[str, Any]) -> str:
    """One row of the table."""
    return (
        f"| {eligible} | {result['index']} | {result['plan']} | {result['rate']:,.0f} | {result['p50']:.1f} "
        f"| {result['p99']:.1f} | {result['wrong']} | {result['cpu']:.0f} | {result['search']:.0f} "
        f"| {result['cpu'] - result['search']:.0f} |"
    )


def soak_test(
    url: str, bodies: list[bytes], options: argparse.Namespace, process: psutil.Process, pipe: Connection
) -> list[str]:
    """Apply a load for minutes with reloads and live changes; returns the failures and the memory by minute."""
    stop = threading.Event()
    memory, changed, reloads = list[str](), [0, 0], [0]

    def disturb() -> None:
        headers, draw = {"Authorization": f"Bearer {TOKEN}"}, random.Random(0)
        with httpx.Client(base_url=url, timeout=30, headers=headers) as http:
            second = 0
            while not stop.wait(1.0):
                second += 1
                status = "paused" if second % 2 else "active"
                body = {"version": second, "status": status}
                answer = http.patch(f"/v1/ads/i{draw.randrange(options.rows):07d}", json=body)
                changed[0] += 1
                changed[1] += answer.status_code != 200
                if second % 30 == 0:
                    reloads[0] += 1
                    pipe.send(("publish", f"v{reloads[0]}"))
                if second % 60 == 29:  # just before the next version, long after the last one was loaded
                    memory.append(f"{anonymous_memory(process.pid) / 2**30:.2f}")

    threading.Thread(target=disturb, daemon=True).start()
    result = on_a_core(apply_load(url, bodies, options.connections, 60 * options.soak, process, pipe))
    stop.set()
    version = httpx.get(f"{url}/v1/version").json()["version"]
    return [
        f"The soak test of {options.soak:g} minutes had {reloads[0]} reloads ({version} was served at the end), "
        f"{changed[0]} live changes ({changed[1]} refused) and {result['requests']:,} requests ({result['wrong']} not "
        f"answered with 200; p99 {result['p99']:.1f} ms). The server's anonymous memory was read just before every "
        f"second reload, about once a minute. In GiB: {', '.join(memory)}.",
    ]


def anonymous_memory(pid: int) -> int:
    """Bytes of a process's memory that are not mapped from files."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def show_progress(message: str, share: float) -> None:
    """Show the progress of building the index."""
    print_progress(f"{share:4.0%} {message}")


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(main())
