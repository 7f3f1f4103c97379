"""The cost of live changes: batches that change whole campaigns under load, and a start after a million changes.

    python benchmarks/change_log.py --work DIR [--ads 300000] [--campaigns 1000] [--changes 1000000] [--output TABLE.md]

A server in a process of its own serves generated items with an ad each. One client asks for ads every 20 ms, another
for `/healthz`, while a third changes all campaigns in one request, ten times. Then changes of ads are written to a log,
and the steps of a start that need the log are timed: with the log as it was written, and once it has been compacted.
"""

import argparse
import json
import multiprocessing
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
from _cost import loop_seconds
from _page import argument_parser, print_progress, publish
from filters import AS_OF, generate_catalogue
from load import edges

from retrieval.api.app import Snapshot, Tokens, create_app
from retrieval.api.server import create_server
from retrieval.catalogue.ads import Ads
from retrieval.config import ServeConfig
from retrieval.live.change_log import SqliteChangeLog
from retrieval.live.live_ads import LiveAds
from retrieval.search.retriever import Retriever

TOKEN = {"Authorization": "Bearer changes"}
BATCHES = 10
ITEMS = 20_000


def main() -> int:
    """Measure the batches and the starts, and print the page."""
    parser = argument_parser(__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for the logs")
    parser.add_argument("--ads", type=int, default=300_000)
    parser.add_argument("--campaigns", type=int, default=1000)
    parser.add_argument("--changes", type=int, default=1_000_000)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    lines = [
        "# Live changes",
        "",
        "`python benchmarks/change_log.py --work DIR`",
        "",
        f"There are {options.ads:,} ads in {options.campaigns:,} campaigns on {ITEMS:,} items.",
        "",
        *batches(options),
        "",
        *starts(options),
        "",
        f"On this host, a loop of 20 million additions in Python took {loop_seconds():.1f} s of CPU time.",
    ]
    return publish("\n".join(lines) + "\n", options.output)


def ads_table(n: int, campaigns: int) -> pa.Table:
    """Ads of the generated items, each in one of the campaigns."""
    number = np.arange(n)
    return pa.table(
        {
            "ad_id": pa.array([f"a{ad:07d}" for ad in range(n)]),
            "item_id": pa.array([f"i{row:07d}" for row in (number % ITEMS).tolist()]),
            "campaign_id": pa.array([f"c{campaign}" for campaign in (number % campaigns).tolist()]),
        }
    )


def serve(log: Path, n_ads: int, campaigns: int, pipe: Connection) -> None:
    """Serve generated items; send the URL once the server listens."""
    catalogue = generate_catalogue(ITEMS, 32, 500)
    ads = Ads.from_table(ads_table(n_ads, campaigns), catalogue.row_of)
    retriever = Retriever(catalogue, edges(ITEMS), ads, None, as_of=AS_OF)
    config = ServeConfig(changes_poll_seconds=0.5)
    tokens = Tokens(write="changes")
    app = create_app(
        lambda: Snapshot("v", AS_OF, retriever), lambda: "v", config, lambda at: at, SqliteChangeLog(log), tokens
    )
    create_server(app, port=0, on_listening=pipe.send).run()


@contextmanager
def serving(log: Path, options: argparse.Namespace) -> Iterator[str]:
    """Serve in a process of its own until the end of the block; yield the URL."""
    parent, child = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    server = context.Process(target=serve, args=(log, options.ads, options.campaigns, child), daemon=True)
    server.start()
    try:
        yield parent.recv()
    finally:
        server.terminate()
        server.join()


def empty(path: Path) -> Path:
    """Delete the log at a path, if there is one, and return the path."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    return path


def batches(options: argparse.Namespace) -> list[str]:
    """The table of latencies while all campaigns are changed at once, and while nothing is changed."""
    seconds = list[float]()

    def change() -> None:
        names = [f"c{campaign}" for campaign in range(options.campaigns)]
        for version in range(1, BATCHES + 1):
            status = "paused" if version % 2 else "active"
            changes = [{"campaign_id": name, "version": version, "status": status} for name in names]
            start = time.perf_counter()
            response = httpx.post(f"{url}/v1/changes", json={"changes": changes}, headers=TOKEN, timeout=300)
            seconds.append(time.perf_counter() - start)
            assert response.json()["changes"][-1]["outcome"] == "applied", response.text
            time.sleep(0.2)

    with serving(empty(options.work / "batches.sqlite"), options) as url:
        quiet = while_asking(url, lambda: time.sleep(5))
        busy = while_asking(url, change)
    lines = [
        f"All campaigns were changed in one batch, {BATCHES} times. A batch took {max(seconds):.2f} s at most, and "
        f"{np.median(seconds):.2f} s in the median. This table has the milliseconds of the other clients' requests, "
        "without any change (quiet) and during the batches:",
        "",
        "| | quiet p99 | quiet slowest | batches p99 | batches slowest |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in ("retrieve", "healthz"):
        values = (np.percentile(quiet[name], 99), max(quiet[name]), np.percentile(busy[name], 99), max(busy[name]))
        lines.append(f"| {name} | " + " | ".join(f"{1000 * value:.1f}" for value in values) + " |")
    return lines


def while_asking(url: str, work: Callable[[], None]) -> dict[str, list[float]]:
    """Return the seconds of requests that two clients send every 20 ms while some work is done."""
    over = threading.Event()
    seconds: dict[str, list[float]] = {"retrieve": [], "healthz": []}

    def ask(name: str) -> None:
        with httpx.Client(base_url=url, timeout=300) as client:
            number = 0
            while not over.is_set():
                number += 1
                start = time.perf_counter()
                if name == "retrieve":
                    client.post("/v1/retrieve", content=json.dumps({"items": [f"i{number:07d}"], "k": 20}))
                else:
                    client.get("/healthz")
                seconds[name].append(time.perf_counter() - start)
                time.sleep(max(0.0, 0.02 - (time.perf_counter() - start)))

    clients = [threading.Thread(target=ask, args=(name,)) for name in seconds]
    for client in clients:
        client.start()
    work()
    over.set()
    for client in clients:
        client.join()
    return seconds


def write_log(path: Path, n: int, n_ads: int) -> None:
    """Write n changes to a new log, each of an ad drawn at random."""
    SqliteChangeLog(empty(path)).close()
    ads = np.random.default_rng(1).integers(0, n_ads, n).tolist()
    rows = (
        (
            "2026-03-01T00:00:00+00:00",
            json.dumps(
                {
                    "ad_id": f"a{ad:07d}",
                    "version": version,
                    "status": ("paused", "active")[version % 2],
                    "ends_at": f"2026-03-{1 + version % 28:02d}T00:00:00Z",
                }
            ),
        )
        for version, ad in enumerate(ads, start=1)
    )
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany("INSERT INTO changes (received_at, change) VALUES (?, ?)", rows)


def starts(options: argparse.Namespace) -> list[str]:
    """The table of the seconds that the log adds to a start."""
    path = options.work / "million.sqlite"
    write_log(path, options.changes, options.ads)
    print_progress("log written")
    table = Ads.from_table(ads_table(options.ads, options.campaigns), {f"i{row:07d}": row for row in range(ITEMS)})
    lines = [
        f"The log has {options.changes:,} changes, each of one ad's status and end. This table has the seconds of each "
        "step that needs the log when a server starts:",
        "",
        "| log | file, MB | read | apply | make the snapshot |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in ("as written", "compacted"):
        size = path.stat().st_size
        start = time.perf_counter()
        log = SqliteChangeLog(path)
        changes = log.read()
        read = time.perf_counter()
        live = LiveAds(table, changes)
        applied = time.perf_counter()
        assert log.compact(live.changes)
        compacted = time.perf_counter()
        log.close()
        lines.append(
            f"| {name} | {size / 1e6:.0f} | {read - start:.2f} | {applied - read:.2f} | {compacted - applied:.2f} |"
        )
    return lines


if __name__ == "__main__":
    raise SystemExit(main())
