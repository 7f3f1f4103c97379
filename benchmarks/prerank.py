"""The pre-ranker: what it adds to retrieval on shops' next days, beside its counters alone; and what it costs.

    python benchmarks/prerank.py quality --name NAME --train EVENTS --test EVENTS [--items ITEMS] --work DIR [--seeds 1]
    python benchmarks/prerank.py impressions --name NAME --events EVENTS … --items ITEMS --work DIR
    python benchmarks/prerank.py speed [--output TABLE.md]

*quality*: item to item; the weights come from the hold-out of the training events, and the test is read once.
*impressions*: the requests of the log's last part that show several items of which one is clicked: their order by
position, by price, by counters from before, and by those with the retrieval score; weights are learned on the part
before it.
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
from _parts import Line, Part, parser, run

from graph_build.config import InputConfig
from jobs.config import Config
from jobs.pipeline.evaluate import catalogue_of
from jobs.pipeline.graph_stage import build_graph
from jobs.pipeline.inputs import RunInputs
from jobs.pipeline.rerank_lists import retrieved_lists
from jobs.pipeline.rerank_stage import read_counters
from jobs.pipeline.test_events import read_events
from jobs.pipeline.training import choose, fit_everything
from retrieval.catalogue.edges import Edges
from retrieval.evaluation.pairs import item_pairs
from retrieval.evaluation.protocols import evaluate
from retrieval.evaluation.sessions import sessions_from_table
from retrieval.queries import Queries
from retrieval.ranking.embedding_ranker import EmbeddingRanker
from retrieval.ranking.reranked import RerankedRanker
from retrieval.ranking.reranker import Context, Counter, Reranker
from retrieval.ranking.reranker_fit import TrainingLists, fit

CELLS = (("all", "HR", 20), ("all", "MRR", 20), ("all", "HR", 100), ("tail", "HR", 20), ("tail", "HR", 100))


def main() -> int:
    """Measure and print."""
    options = parser(__doc__, PARTS)
    options.add_argument("--name", default="the shop")
    options.add_argument("--events", type=Path, nargs="+")
    options.add_argument("--items", type=Path)
    options.add_argument("--work", type=Path)
    return run(options.parse_args(), PARTS)


def settings(seed: int, threads: int) -> Config:
    """The defaults, with counters."""
    learning = {"seed": seed, "threads": threads}
    return Config.model_validate({"graph": {"counters": True}, "model": {"train": learning}})


def quality(chosen: argparse.Namespace, say: Line) -> None:
    """The table of one shop."""
    graph = chosen.work / f"graph-{chosen.name}"
    if not (graph / "summary.json").exists():
        inputs = RunInputs((str(chosen.train),), str(chosen.items) if chosen.items else None)
        build_graph(inputs, graph, settings(0, 0), None, lambda *_: None)
    say(f"## {chosen.name}: item to item")
    say("")
    say("| order of the best 200 | HR@20 | MRR@20 | HR@100 | tail HR@20 | tail HR@100 | HR@20 of retrieval's |")
    say("|---|---:|---:|---:|---:|---:|---:|")
    test = sessions_from_table(read_events([str(chosen.test)], InputConfig()))
    rows: dict[str, list[list[float]]] = {}
    weights: dict[str, float] = {}
    for seed in range(chosen.seeds):
        config = settings(seed, chosen.threads)
        picked = choose(graph, config, lambda *_: None)
        trained = fit_everything(graph, config, picked.record.share, lambda *_: None)
        early = ranker_of(graph, "fit", picked.embeddings, picked.weights)
        late = ranker_of(graph, "full", trained.embeddings, picked.weights)
        lists = retrieved_lists(graph, early, config)
        assert lists is not None
        counters = read_counters(graph, early.catalogue.item_ids, "fit")
        every = [lists.candidates(place) for place in range(len(lists.target))]
        found, scores = [line[0] for line in every], [line[1] for line in every]
        learned = fit(counters, TrainingLists(lists.contexts, found, scores, lists.target))
        unscored = [0 * score for score in scores]
        alone = fit(counters, TrainingLists(lists.contexts, found, unscored, lists.target))
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
            print(order, rows[order][-1], file=sys.stderr, flush=True)
        weights = learned.weights
    own = float(np.mean(rows["by retrieval"], axis=0)[0])
    for order, cells in rows.items():
        mean = np.mean(cells, axis=0)
        say(f"| {order} | {' | '.join(f'{cell:.3f}' for cell in mean)} | {mean[0] / own:.3f} |")
    say("")
    said = ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items())
    say(f"{chosen.seeds} seed{'s' if chosen.seeds > 1 else ''}. Weights, of standardised counters: {said}.")


def ranker_of(graph: Path, level: str, embeddings: Any, weights: Any) -> EmbeddingRanker:
    """Embeddings as they are served."""
    catalogue = catalogue_of(embeddings, graph / level, weights)
    edges = Edges.from_table(pq.read_table(graph / level / "edges"), catalogue.item_ids, weights)
    return EmbeddingRanker(catalogue, edges)


def impressions(chosen: argparse.Namespace, say: Line) -> None:
    """A log that says what was shown: each request's items, and which was clicked."""
    events = [pq.read_table(path) for path in chosen.events]
    shown = pa.concat_tables([one for one in events if "request_id" in one.column_names], promote_options="default")
    requests = requests_of(shown)
    times = np.array([request.time for request in requests])
    # The last fifth judges; weights are learned on the fifth before it; all that is counted comes from before that.
    first, second = np.quantile(times, 0.6), np.quantile(times, 0.8)
    graph = chosen.work / f"graph-{chosen.name}"
    if not (graph / "summary.json").exists():
        before = chosen.work / f"before-{chosen.name}"
        before.mkdir(parents=True, exist_ok=True)
        paths = []
        for path, one in zip(chosen.events, events, strict=True):
            early = one.filter(pc.less(one["timestamp"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()), int(first)))
            paths.append(str(before / path.name))
            pq.write_table(early, paths[-1])
        build_graph(RunInputs(tuple(paths), str(chosen.items)), graph, settings(0, 0), None, lambda *_: None)
    config = settings(0, chosen.threads)
    picked = choose(graph, config, lambda *_: None)
    trained = fit_everything(graph, config, picked.record.share, lambda *_: None)
    ranker = ranker_of(graph, "full", trained.embeddings, picked.weights)
    counters = read_counters(graph, ranker.catalogue.item_ids, "full")
    row_of = ranker.catalogue.row_of
    learning, judging = [], []
    for request in requests:
        part = learning if first <= request.time < second else judging if request.time >= second else None
        views = [row_of[item] for item in request.viewed if item in row_of]
        if part is None or not views or any(item not in row_of for item in request.items):
            continue
        rows = np.array([row_of[item] for item in request.items], np.int64)
        vector = ranker.vectors(Queries(np.array(views[-10:]), np.array([0, len(views[-10:])])))[0]
        score = (ranker.catalogue.item[rows] @ vector + ranker.catalogue.bias[rows]).astype(np.float32)
        context = Context.of(np.array(views, np.int64), 0.5, hashed=request.query)
        part.append((context, rows, score, request))

    def learned(scores: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> Reranker:
        contexts, rows, score, asked = zip(*learning, strict=True)
        target = np.array([request.clicked for request in asked])
        return fit(counters, TrainingLists(contexts, rows, [scores(one) for one in score], target))

    with_score, alone = learned(lambda score: score), learned(lambda score: 0 * score)
    orders: dict[str, Callable[[Any, Any, Any, Any], np.ndarray[Any, Any]]] = {
        "by position, as it was shown": lambda _c, _r, _s, request: -np.arange(len(request.items), dtype=float),
        "by price": lambda _c, _r, _s, request: -np.array(request.prices, float),
        "by retrieval": lambda _c, _r, score, _q: score,
        "by counters alone": lambda context, rows, score, _q: alone.scores(context, rows, score),
        "pre-ranked": lambda context, rows, score, _q: with_score.scores(context, rows, score),
    }
    say(f"## {chosen.name}: impressions")
    say("")
    say("| order | MRR of the clicked item | first |")
    say("|---|---:|---:|")
    for name, order in orders.items():
        place = []
        for context, rows, score, request in judging:
            value = order(context, rows, score, request)
            own = value[request.clicked]
            # Ties share their places.
            place.append(1 + (value > own).sum() + ((value == own).sum() - 1) / 2)
        say(f"| {name} | {np.mean(1 / np.array(place)):.4f} | {np.mean(np.array(place) == 1):.3f} |")
    say("")
    say(f"{len(learning):,} requests to learn from, {len(judging):,} judged.")


class Request:
    """What one request showed."""

    def __init__(self, items: list[str], prices: list[float], clicked: int, time: int) -> None:
        self.items, self.prices, self.clicked, self.time = items, prices, clicked, time
        self.viewed: list[str] = []
        self.query: int | None = None


def requests_of(shown: pa.Table) -> list[Request]:
    """Requests with several items of which exactly one was clicked, with what their sessions had opened before."""
    at = shown["timestamp"].cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    shown = shown.append_column("time", at).sort_by("time")
    found: dict[str, dict[str, Any]] = {}
    opened: dict[str, list[tuple[int, str]]] = {}
    columns = ["session_id", "time", "event_type", "item_id", "request_id", "position", "price"]
    for session, time_, kind, item, request, position, price in zip(
        *(shown[name].to_pylist() for name in columns), strict=True
    ):
        if kind in ("click", "view") and item is not None:
            opened.setdefault(session, []).append((time_, item))
        if request is None or item is None:
            continue
        mine = found.setdefault(request, {"session": session, "time": time_, "shown": {}, "clicked": set()})
        if kind == "impression":
            mine["shown"][item] = (position, price)
        elif kind == "click":
            mine["clicked"].add(item)
    requests = []
    for one in found.values():
        items = sorted(one["shown"], key=lambda item: one["shown"][item][0] or 0)
        clicked = [item for item in one["clicked"] if item in one["shown"]]
        if len(items) < 2 or len(clicked) != 1:
            continue
        prices = [one["shown"][item][1] if one["shown"][item][1] is not None else np.inf for item in items]
        request = Request(items, prices, items.index(clicked[0]), one["time"])
        request.viewed = [item for at, item in opened.get(one["session"], []) if at < one["time"]]
        requests.append(request)
    return requests


def speed(_chosen: argparse.Namespace, say: Line) -> None:
    """Eight counters over a catalogue of 100,000 items, 200 candidates."""
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
    some = np.ones(len(counters), np.float32)
    ranker = Reranker(tuple(counters), np.ones(len(counters) + 1, np.float32), some, some)
    say("## Cost of 200 candidates")
    say("")
    say(f"{len(counters)} counters of {pairs:,} pairs, {n:,} items.")
    say("")
    say("| items viewed | µs |")
    say("|---:|---:|")
    for viewed in (1, 3, 10):
        contexts = [Context.of(generator.choice(views, viewed), 0.5) for _ in range(300)]
        lists = [generator.choice(n, 200, replace=False) for _ in range(300)]
        score = np.sort(generator.random(200).astype(np.float32))[::-1]
        for _ in range(2):
            began = time.process_time()
            for context, rows in zip(contexts, lists, strict=True):
                ranker.ordered(context, rows, score)
            spent = time.process_time() - began
        say(f"| {viewed} | {1e6 * spent / len(contexts):.0f} |")


PARTS: dict[str, Part] = {
    "quality": quality,
    "impressions": impressions,
    "speed": speed,
}

if __name__ == "__main__":
    sys.exit(main())
