"""The API under load over real sockets: CPU a request beyond the search itself, latencies, a soak with reloads.

    python benchmarks/load.py --work DIR [--rows 1000000] [--connections 16] [--seconds 60] [--soak MINUTES]
        [--output TABLE.md]

A generated catalogue with a million advertised items (64 dimensions, 30 edges an item, ads that run in some countries)
is served by `lightsage`'s own server in a process of its own; clients keep connections open and wait for each answer.
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
from typing import Any

import httpx
import numpy as np
import psutil
import pyarrow as pa
from _measure import loop_seconds
from filters import AS_OF, generated

from retrieval.api.app import Snapshot, Tokens, create_app
from retrieval.api.server import create_server
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
    """Build or read the index, serve it, load it, print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--work", type=Path, required=True, help="where the index is kept")
    options.add_argument("--connections", type=int, default=16)
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--soak", type=float, default=0.0, metavar="MINUTES", help="then, with reloads and changes")
    options.add_argument("--output", type=Path)
    chosen = options.parse_args()
    folder = chosen.work / f"index-{chosen.rows}"
    if not (folder / "meta.json").exists():
        catalogue = generated(chosen.rows, 64)
        contents = IndexContents(catalogue, edges(chosen.rows), ads(catalogue), AS_OF)
        build_index(folder, contents, progress=say_progress)
    parent, child = get_context("spawn").Pipe()
    given = (folder, chosen.work / "changes.sqlite", child)
    server = get_context("spawn").Process(target=serve, args=given, daemon=True)
    server.start()
    url = parent.recv()
    process = psutil.Process(server.pid)
    items = [f"i{row:07d}" for row in np.random.default_rng(5).integers(0, chosen.rows, 5000)]
    lines = [
        "# The API under load",
        "",
        f"`python benchmarks/load.py --work DIR --soak 10 --output …`, on {os.cpu_count()} cores.",
        "",
        f"{chosen.rows:,} items with an ad each, k = {K}, reasons off. *Search*: what finds the candidates, direct "
        "neighbours too, and ranks them "
        "while the load lasts; *beyond it*: all else, from the socket to the answer. CPU is that of the whole server "
        "process; the clients share its cores, so that both cost more than they would alone.",
        "",
        "| eligible | index | plan | requests/s | p50 ms | p99 ms | not 200 | CPU µs a request | search | beyond it |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for country, eligible in (("AB", "10%"), ("AC", "60%"), ("AA", "100%")):
        bodies = requests(items, country)
        found = on_a_core(loaded(url, bodies, chosen.connections, chosen.seconds, process, parent))
        lines.append(row(eligible, found))
        print(lines[-1], file=sys.stderr, flush=True)
    lines.append(row("an empty app", nothing_served(chosen, requests(items, "AA"))))
    lines += [
        "",
        f"{chosen.connections} connections, each load held for {chosen.seconds:g} s. How fast this host was: a loop in "
        f"Python of 20 million additions took {loop_seconds():.1f} s beside nothing else.",
    ]
    if chosen.soak:
        bodies = requests(items, "AB")
        lines += ["", *soaked(url, bodies, chosen, process, parent)]
    page = "\n".join(lines) + "\n"
    if chosen.output:
        chosen.output.write_text(page, encoding="utf-8")
    print(page)
    server.terminate()
    return 0


def requests(items: list[str], country: str) -> list[bytes]:
    """Bodies."""
    return [json.dumps({"items": [item], "k": K, "country": country, "reasons": False}).encode() for item in items]


def edges(n: int, per_item: int = 30) -> Edges:
    """Edges of three types to items nearby."""
    rng = np.random.default_rng(3)
    indptr = np.arange(0, n * per_item + 1, per_item, dtype=np.int64)
    dst = (np.repeat(np.arange(n), per_item) + rng.integers(1, 400, n * per_item)) % n
    kind = np.tile(np.arange(per_item) % 3, n)
    return Edges(indptr, dst.astype(np.int32), kind.astype(np.uint8), rng.random(n * per_item, np.float32),
                 ("co_search", "strong_click", "swing"), 0.05)  # fmt: skip


def ads(catalogue: Catalogue) -> pa.Table:
    """An ad an item: a tenth of them runs in AB, six tenths in AC, all in AA."""
    draw = np.random.default_rng(2).random(catalogue.n_rows)
    ids = pa.array(catalogue.item_ids, pa.string())
    places = (["AA", "AB", "AC"], ["AA", "AC"], ["AA"])
    countries = pa.array([places[(one >= 0.1) + (one >= 0.6)] for one in draw.tolist()])
    campaigns = pa.array([f"c{row % 1000}" for row in range(catalogue.n_rows)])
    return pa.table({"ad_id": ids, "item_id": ids, "campaign_id": campaigns, "countries": countries})


def serve(folder: Path, changes: Path, pipe: Connection) -> None:
    """The server's process: as `lightsage serve` runs it, plus a door for what is measured inside."""
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
    spent = timed()

    def listen() -> None:
        while True:
            try:
                asked, what = pipe.recv()
            except EOFError:  # the load is over
                return
            if asked == "spent":
                pipe.send(dict(spent))
            else:
                name[0] = what

    threading.Thread(target=listen, daemon=True).start()
    server.run()


def nothing_served(chosen: argparse.Namespace, bodies: list[bytes]) -> dict[str, Any]:
    """The same load on the same server with an app that always answers the same: what the socket costs alone."""
    parent, child = get_context("spawn").Pipe()
    server = get_context("spawn").Process(target=serve_nothing, args=(child,), daemon=True)
    server.start()
    process = psutil.Process(server.pid)
    found = on_a_core(loaded(parent.recv(), bodies, chosen.connections, 5.0, process, parent))
    server.terminate()
    return found


def serve_nothing(pipe: Connection) -> None:
    """A process that answers every request with an answer of the usual size."""
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
    create_server(app, port=0, on_listening=pipe.send).run()  # type: ignore[arg-type]


def timed() -> dict[str, Any]:
    """CPU seconds and number of the searches from now on, and what the last one was; sums that grow."""
    found: dict[str, Any] = {"seconds": 0.0, "searches": 0, "index": "", "plan": ""}
    prepare, best = EmbeddingRanker.prepare, SearchPlanner.search

    def asked(self: EmbeddingRanker, views: Rows) -> PreparedQuery:
        found["seconds"] -= time.thread_time()
        prepared = prepare(self, views)
        found["seconds"] += time.thread_time()
        return prepared

    def searched(self: SearchPlanner, *given: Any, **more: Any) -> Any:
        found["seconds"] -= time.thread_time()
        picked = best(self, *given, **more)
        found["seconds"] += time.thread_time()
        found["searches"] += 1
        assert self.ann is not None
        found["index"], found["plan"] = f"{self.ann.kind}, recall@100 {self.ann.recall:.3f}", picked[1]
        return picked

    EmbeddingRanker.prepare, SearchPlanner.search = asked, searched  # type: ignore[method-assign]
    return found


class Polling(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Never sleeps: a server must not pay for waking clients up, who are on other hosts in earnest."""

    def select(self, timeout: float | None = None) -> list[Any]:
        """What is ready now."""
        found: list[Any] = super().select(0)
        return found


def on_a_core(work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """Run clients that keep a core busy."""
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(Polling())) as runner:
        return runner.run(work)


async def client(url: str, bodies: list[bytes], until: float, taken: list[float], wrong: list[int], seed: int) -> None:
    """One connection that asks as soon as it is answered."""
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
        taken.append(time.perf_counter() - began)
        if not header.startswith(b"HTTP/1.1 200"):
            wrong.append(int(header.split()[1]))
    writer.close()


async def loaded(
    url: str, bodies: list[bytes], connections: int, seconds: float, process: psutil.Process, pipe: Connection
) -> dict[str, Any]:
    """Latencies, and CPU of the server a request."""

    def searched() -> dict[str, Any]:
        pipe.send(("spent", None))
        return dict(pipe.recv())

    await asyncio.gather(*(client(url, bodies, time.perf_counter() + 3, [], [], n) for n in range(connections)))
    taken, wrong = list[float](), list[int]()
    search = searched()
    before, began = sum(process.cpu_times()[:2]), time.perf_counter()
    until = began + seconds
    await asyncio.gather(*(client(url, bodies, until, taken, wrong, n) for n in range(connections)))
    wall, cpu = time.perf_counter() - began, sum(process.cpu_times()[:2]) - before
    now, (p50, p99) = searched(), np.percentile(taken, [50, 99])
    return now | {
        "search": 1e6 * (now["seconds"] - search["seconds"]) / max(1, now["searches"] - search["searches"]),
        "connections": connections,
        "seconds": wall,
        "requests": len(taken),
        "rate": len(taken) / wall,
        "p50": 1e3 * p50,
        "p99": 1e3 * p99,
        "cpu": 1e6 * cpu / len(taken),
        "wrong": len(wrong),
    }


def row(eligible: str, found: dict[str, Any]) -> str:
    """A line of the table."""
    return (
        f"| {eligible} | {found['index']} | {found['plan']} | {found['rate']:,.0f} | {found['p50']:.1f} "
        f"| {found['p99']:.1f} | {found['wrong']} | {found['cpu']:.0f} | {found['search']:.0f} "
        f"| {found['cpu'] - found['search']:.0f} |"
    )


def soaked(
    url: str, bodies: list[bytes], chosen: argparse.Namespace, process: psutil.Process, pipe: Connection
) -> list[str]:
    """Minutes of load with a reload every 30 seconds and a change every second: failures, and memory by minute."""
    stop = threading.Event()
    memory, changed, reloads = list[str](), [0, 0], [0]

    def disturb() -> None:
        headers, draw = {"Authorization": f"Bearer {TOKEN}"}, random.Random(0)
        with httpx.Client(base_url=url, timeout=30, headers=headers) as own:
            second = 0
            while not stop.wait(1.0):
                second += 1
                status = "paused" if second % 2 else "active"
                body = {"version": second, "status": status}
                answer = own.patch(f"/v1/ads/i{draw.randrange(chosen.rows):07d}", json=body)
                changed[0] += 1
                changed[1] += answer.status_code != 200
                if second % 30 == 0:
                    reloads[0] += 1
                    pipe.send(("publish", f"v{reloads[0]}"))
                if second % 60 == 29:  # just before another version comes, when the last one has long been taken over
                    memory.append(f"{anonymous(process.pid) / 2**30:.2f}")

    threading.Thread(target=disturb, daemon=True).start()
    found = on_a_core(loaded(url, bodies, chosen.connections, 60 * chosen.soak, process, pipe))
    stop.set()
    served = httpx.get(f"{url}/v1/version").json()["version"]
    return [
        f"Soak of {chosen.soak:g} minutes: {reloads[0]} reloads (served at the end: {served}), {changed[0]} live "
        f"changes ({changed[1]} refused), {found['requests']:,} requests, {found['wrong']} not answered with 200, "
        f"p99 {found['p99']:.1f} ms. Anonymous memory by minute, GiB, before every "
        f"other reload: {', '.join(memory)}.",
    ]


def anonymous(pid: int) -> int:
    """Bytes of memory that no file stands behind."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def say_progress(message: str, share: float) -> None:
    """To the terminal."""
    print(f"{share:4.0%} {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(main())
