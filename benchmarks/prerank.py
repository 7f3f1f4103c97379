"""The pre-ranker: its quality compared with retrieval alone and with its counters alone, and its cost.

    python benchmarks/prerank.py quality --name NAME --train EVENTS --test EVENTS [--items ITEMS] --work DIR [--seeds 1]
    python benchmarks/prerank.py impressions --name NAME --events EVENTS … --items ITEMS --work DIR
    python benchmarks/prerank.py speed [--output TABLE.md]

*quality* measures the search from one item to the next; the weights are learned on the hold-out of the training events,
and the test is read once. *impressions* takes requests that showed several items, of which one was clicked. It compares
orders of these items on the last fifth of the log: by position, price, retrieval, counters of earlier events, and
pre-ranker. The weights are learned on the fifth before. *speed* measures the time for 200 candidates.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from _page import print_progress
from _parts import AddLine, Part, parts_parser, run_part

from graph_build.config import InputConfig
from jobs.config import Config
from jobs.pipeline.evaluate import catalogue_of
from jobs.pipeline.evaluation_events import read_events, sessions_of
from jobs.pipeline.graph_stage import build_graph
from jobs.pipeline.inputs import RunInputs
from jobs.pipeline.rerank_lists import retrieved_lists
from jobs.pipeline.rerank_stage import read_counters
from jobs.pipeline.training import choose, fit_everything
from retrieval.catalogue.edges import Edges
from retrieval.evaluation.pairs import item_pairs
from retrieval.evaluation.protocols import evaluate
from retrieval.queries import Queries
from retrieval.ranking.embedding_ranker import EmbeddingRanker
from retrieval.ranking.reranked import RerankedRanker
from retrieval.ranking.reranker import Context, Counter, Reranker
from retrieval.ranking.reranker_fit import TrainingLists, fit

CELLS = (("all", "HR", 20), ("all", "MRR", 20), ("all", "HR", 100), ("tail", "HR", 20), ("tail", "HR", 100))


def main() -> int:
    """Run one part."""
    parser = parts_parser(__doc__, PARTS)
    parser.add_argument("--name", default="the shop")
    parser.add_argument("--events", type=Path, nargs="+", help="events with impressions")
    parser.add_argument("--items", type=Path, help="the items table")
    parser.add_argument("--work", type=Path, help="folder for graphs")
    return run_part(parser.parse_args(), PARTS)


def settings(seed: int, threads: int) -> Config:
    """The default settings, with counters."""
    learning = {"seed": seed, "threads": threads}
    return Config.model_validate({"graph": {"counters": True}, "model": {"train": learning}})


def quality(options: argparse.Namespace, add_line: AddLine) -> None:
    """Measure the quality on one shop."""
    graph = options.work / f"graph-{options.name}"
    if not (graph / "summary.json").exists():
        inputs = RunInputs((str(options.train),), str(options.items) if options.items else None)
        build_graph(inputs, graph, settings(0, 0), None, lambda *_: None)
    add_line(f"## {options.name}: item to item")
    add_line("")
    add_line("| order of the best 200 | HR@20 | MRR@20 | HR@100 | tail HR@20 | tail HR@100 | HR@20 of retrieval's |")
    add_line("|---|---:|---:|---:|---:|---:|---:|")
    test = sessions_of(read_events([str(options.test)], InputConfig()))
    rows: dict[str, list[list[float]]] = {}
    weights: dict[str, float] = {}
    for seed in range(options.seeds):
        config = settings(seed, options.threads)
        choice = choose(graph, config, lambda *_: None)
        trained = fit_everything(graph, config, choice.record.share, lambda *_: None)
        early = ranker_of(graph, "fit", choice.embeddings, choice.weights)
        late = ranker_of(graph, "full", trained.embeddings, choice.weights)
        lists = retrieved_lists(graph, early, config)
        assert lists is not None
        counters = read_counters(graph, early.catalogue.item_ids, "fit")
        lines = [lists.candidates(number) for number in range(len(lists.target))]
        candidates, scores = [line[0] for line in lines], [line[1] for line in lines]
        learned = fit(counters, TrainingLists(lists.contexts, candidates, scores, lists.target))
        unscored = [0 * score for score in scores]
        alone = fit(counters, TrainingLists(lists.contexts, candidates, unscored, lists.target))
        served = {counter.name: counter for counter in read_counters(graph, late.catalogue.item_ids, "full")}
        full = tuple(served[counter.name] for counter in counters)
        pairs = item_pairs(test, late.catalogue.item_ids, late.catalogue.events)
        orders: dict[str, Any] = {
            "by retrieval": late,
            "by counters alone": RerankedRanker(late, replace(alone, counters=full)),
            "pre-ranked": RerankedRanker(late, replace(learned, counters=full)),
        }
        for order, ranker in orders.items():
            values = {
                (row["slice"], row["metric"], row["k"]): row["value"] for row in evaluate("", ranker, pairs, samples=1)
            }
            rows.setdefault(order, []).append([float(values[cell] or 0.0) for cell in CELLS])
            print_progress(f"{order} {rows[order][-1]}")
        weights = learned.weights
    retrieval = float(np.mean(rows["by retrieval"], axis=0)[0])
    for order, cells in rows.items():
        mean = np.mean(cells, axis=0)
        add_line(f"| {order} | {' | '.join(f'{cell:.3f}' for cell in mean)} | {mean[0] / retrieval:.3f} |")
    add_line("")
    texts = ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items())
    add_line(f"{options.seeds} seed{'s' if options.seeds > 1 else ''}. Weights of the standardised counters: {texts}.")


def ranker_of(graph: Path, level: str, embeddings: Any, weights: Any) -> EmbeddingRanker:
    """A ranker that ranks by the embeddings as a server does."""
    catalogue = catalogue_of(embeddings, graph / level, weights)
    edges = Edges.from_table(pq.read_table(graph / level / "edges"), catalogue.item_ids, weights)
    return EmbeddingRanker(catalogue, edges)


def impressions(options: argparse.Namespace, add_line: AddLine) -> None:
    """Measure at which rank several orders put the clicked item among the items that were shown with it."""
    events = [pq.read_table(path) for path in options.events]
    shown = pa.concat_tables(
        [table for table in events if "request_id" in table.column_names], promote_options="default"
    )
    requests = requests_of(shown)
    times = np.array([request.time for request in requests])
    # The last fifth of the requests is measured. The weights are learned on the fifth before. All earlier events are
    # counted.
    first, second = np.quantile(times, 0.6), np.quantile(times, 0.8)
    graph = options.work / f"graph-{options.name}"
    if not (graph / "summary.json").exists():
        before = options.work / f"before-{options.name}"
        before.mkdir(parents=True, exist_ok=True)
        paths = []
        for path, table in zip(options.events, events, strict=True):
            early = table.filter(
                pc.less(table["timestamp"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()), int(first))
            )
            paths.append(str(before / path.name))
            pq.write_table(early, paths[-1])
        build_graph(RunInputs(tuple(paths), str(options.items)), graph, settings(0, 0), None, lambda *_: None)
    config = settings(0, options.threads)
    choice = choose(graph, config, lambda *_: None)
    trained = fit_everything(graph, config, choice.record.share, lambda *_: None)
    ranker = ranker_of(graph, "full", trained.embeddings, choice.weights)
    counters = read_counters(graph, ranker.catalogue.item_ids, "full")
    row_of = ranker.catalogue.row_of
    learning, measuring = [], []
    for request in requests:
        part = learning if first <= request.time < second else measuring if request.time >= second else None
        views = [row_of[item] for item in request.viewed if item in row_of]
        if part is None or not views or any(item not in row_of for item in request.items):
            continue
        rows = np.array([row_of[item] for item in request.items], np.int64)
        vector = ranker.vectors(Queries(np.array(views[-10:]), np.array([0, len(views[-10:])])))[0]
        score = (ranker.catalogue.item[rows] @ vector + ranker.catalogue.bias[rows]).astype(np.float32)
        context = Context.of(np.array(views, np.int64), 0.5, hashed=request.query)
        part.append((context, rows, score, request))

    def learned(scores: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> Reranker:
        contexts, rows, score, requests = zip(*learning, strict=True)
        target = np.array([request.clicked for request in requests])
        return fit(counters, TrainingLists(contexts, rows, [scores(values) for values in score], target))

    with_score, alone = learned(lambda score: score), learned(lambda score: 0 * score)
    orders: dict[str, Callable[[Any, Any, Any, Any], np.ndarray[Any, Any]]] = {
        "by position, as shown": lambda _c, _r, _s, request: -np.arange(len(request.items), dtype=float),
        "by price": lambda _c, _r, _s, request: -np.array(request.prices, float),
        "by retrieval": lambda _c, _r, score, _q: score,
        "by counters alone": lambda context, rows, score, _q: alone.scores(context, rows, score),
        "pre-ranked": lambda context, rows, score, _q: with_score.scores(context, rows, score),
    }
    add_line(f"## {options.name}: impressions")
    add_line("")
    add_line("| order | MRR of the clicked item | first |")
    add_line("|---|---:|---:|")
    for name, order in orders.items():
        ranks = []
        for context, rows, score, request in measuring:
            value = order(context, rows, score, request)
            clicked = value[request.clicked]
            # Items with equal values share the mean of their ranks.
            ranks.append(1 + (value > clicked).sum() + ((value == clicked).sum() - 1) / 2)
        add_line(f"| {name} | {np.mean(1 / np.array(ranks)):.4f} | {np.mean(np.array(ranks) == 1):.3f} |")
    add_line("")
    add_line(f"{len(learning):,} requests to learn from, {len(measuring):,} measured.")


class Request:
    """The items that one request showed, and the one that was clicked."""

    def __init__(self, items: list[str], prices: list[float], clicked: int, time: int) -> None:
        self.items, self.prices, self.clicked, self.time = items, prices, clicked, time
        self.viewed: list[str] = []
        self.query: int | None = None


def requests_of(shown: pa.Table) -> list[Request]:
    """Requests with several items of which exactly one was clicked, and the items that the session opened before."""
    time_of = shown["timestamp"].cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    shown = shown.append_column("time", time_of).sort_by("time")
    by_request: dict[str, dict[str, Any]] = {}
    opened: dict[str, list[tuple[int, str]]] = {}
    columns = ["session_id", "time", "event_type", "item_id", "request_id", "position", "price"]
    for session, time_, kind, item, request, position, price in zip(
        *(shown[name].to_pylist() for name in columns), strict=True
    ):
        if kind in ("click", "view") and item is not None:
            opened.setdefault(session, []).append((time_, item))
        if request is None or item is None:
            continue
        entry = by_request.setdefault(request, {"session": session, "time": time_, "shown": {}, "clicked": set()})
        if kind == "impression":
            entry["shown"][item] = (position, price)
        elif kind == "click":
            entry["clicked"].add(item)
    requests = []
    for entry in by_request.values():
        items = sorted(entry["shown"], key=lambda item: entry["shown"][item][0] or 0)
        clicked = [item for item in entry["clicked"] if item in entry["shown"]]
        if len(items) < 2 or len(clicked) != 1:
            continue
        prices = [entry["shown"][item][1] if entry["shown"][item][1] is not None else np.inf for item in items]
        request = Request(items, prices, items.index(clicked[0]), entry["time"])
        request.viewed = [item for at, item in opened.get(entry["session"], []) if at < entry["time"]]
        requests.append(request)
    return requests


def speed(_options: argparse.Namespace, add_line: AddLine) -> None:
    """Measure the time in which eight counters over 100,000 items order 200 candidates."""
    generator = np.random.default_rng(0)
    n, pairs = 100_000, 3_000_000
    views, opened = (np.minimum(generator.zipf(1.3, pairs), n) - 1 for _ in range(2))
    item = np.arange(n, dtype=np.int32)
    kinds = [generator.integers(0, size, n).astype(np.int32) for size in (300, 2000, 5000)]
    sides = {"item": item, "category": kinds[0], "brand": kinds[1], "advertiser": kinds[2]}
    counters = [
        Counter.of_pairs(f"{of}>{side}", sides[of], codes, views, opened)
        for of in ("item", "category")
        for side, codes in sides.items()
    ]
    ones = np.ones(len(counters), np.float32)
    ranker = Reranker(tuple(counters), np.ones(len(counters) + 1, np.float32), ones, ones)
    add_line("## Cost of 200 candidates")
    add_line("")
    add_line(f"{len(counters)} counters of {pairs:,} pairs, {n:,} items.")
    add_line("")
    add_line("| items viewed | µs |")
    add_line("|---:|---:|")
    for viewed in (1, 3, 10):
        contexts = [Context.of(generator.choice(views, viewed), 0.5) for _ in range(300)]
        lists = [generator.choice(n, 200, replace=False) for _ in range(300)]
        score = np.sort(generator.random(200).astype(np.float32))[::-1]
        for _ in range(2):
            began = time.process_time()
            for context, rows in zip(contexts, lists, strict=True):
                ranker.ordered(context, rows, score)
            spent = time.process_time() - began
        add_line(f"| {viewed} | {1e6 * spent / len(contexts):.0f} |")


PARTS: dict[str, Part] = {
    "quality": quality,
    "impressions": impressions,
    "speed": speed,
}

if __name__ == "__main__":
    sys.exit(main())
