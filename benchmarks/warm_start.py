"""Warm starts compared with training from scratch, night after night: time, quality and stability of neighbours.

    python benchmarks/warm_start.py --events TRAIN [TEST] [--items ITEMS] --first 2014-09-25 --nights 4 --work DIR
        [--output TABLE.md] [--name SHOP]
    python benchmarks/warm_start.py --marketplace --work DIR [--output TABLE.md]

The events must include the day after the last night. The first night is trained from scratch. Each later night is
trained twice, in two separate chains: from scratch, and from the weights of the night before. After such a warm start,
the night's embeddings are aligned with those of the night before. A night learns from all days up to its own, and is
measured on the sessions of the next day.
"""

import datetime as dt
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from _page import argument_parser, print_progress, publish

from graph_build.config import InputConfig
from jobs.config import Config
from jobs.marketplace import MarketplaceConfig, generate
from jobs.nightly.comparison import CHOOSING
from jobs.pipeline.evaluate import SESSION_KIND, catalogue_of
from jobs.pipeline.evaluation_events import read_events, sessions_of
from jobs.pipeline.graph_stage import build_graph
from jobs.pipeline.inputs import RunInputs
from jobs.pipeline.training import choose, fit_everything
from model.align import align_embeddings
from model.artefact import save_model
from model.embeddings import Embeddings
from model.warm_start import WarmStart
from retrieval import topk
from retrieval.catalogue.edges import Edges
from retrieval.config import ScoreWeights
from retrieval.evaluation import metrics
from retrieval.evaluation.pairs import pairs_of
from retrieval.ranking.embedding_ranker import EmbeddingRanker

NEIGHBOURS = 20
PROBES = 2000


@dataclass(frozen=True)
class Built:
    """The model of a night, and the CPU seconds of its fit and its refit together."""

    graph: Path
    model: Path
    embeddings: Embeddings
    weights: ScoreWeights
    cpu: float
    steps: tuple[int, int]


def main() -> int:
    """Build the graphs, train both chains, measure and print the page."""
    parser = argument_parser(__doc__)
    parser.add_argument("--events", nargs="+")
    parser.add_argument("--items")
    parser.add_argument("--first", type=dt.date.fromisoformat)
    parser.add_argument("--nights", type=int, default=4)
    parser.add_argument("--marketplace", action="store_true", help="use the generated marketplace instead")
    parser.add_argument("--name", default="the shop")
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    if options.marketplace:
        settings = MarketplaceConfig()
        files = generate(settings, options.work / "marketplace")
        options.events, options.items = [str(files.events), str(files.test_events)], str(files.items)
        options.first, options.name = (
            settings.start + dt.timedelta(days=settings.days - options.nights),
            "the demo's shop",
        )
    days = [options.first + dt.timedelta(days=n) for n in range(options.nights)]
    config = Config()
    events = read_events(options.events, InputConfig())
    earliest = pc.min(events["timestamp"]).as_py().date()
    for day in days:
        folder = options.work / f"graph-{day}"
        if not (folder / "summary.json").exists():
            inputs = RunInputs(tuple(options.events), options.items)
            # On the log's first day, there is no earlier day to fit, so only the last sessions are held out.
            build_graph(inputs, folder, config, day, lambda *_: None, holdout_day=day if day > earliest else None)
            print_progress(f"graph of {day}")
    lines = [
        f"## {options.name}",
        "",
        "| night | start | CPU s | steps (fit) | HR@20 | HR@100 | tail HR@100 | neighbours that stay | "
        "HR@100 of yesterday's queries | not aligned |",
        "|---|---|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    before: dict[str, Built] = {}
    for day in days:
        graph = options.work / f"graph-{day}"
        test = on_day(events, day + dt.timedelta(days=1))
        for start in ("scratch", "warm") if before else ("scratch",):
            built, plain = build(graph, options.work / f"model-{day}-{start}", config, before.get(start), start)
            lines.append(line(day, start, built, plain, before.get(start), test))
            print_progress(lines[-1])
            before[start] = built
        before.setdefault("warm", before["scratch"])
    page = "\n".join(lines) + "\n"
    return publish(page, options.output)


def build(graph: Path, model: Path, config: Config, before: Built | None, start: str) -> tuple[Built, Embeddings]:
    """Train a night's model; returns it (aligned after a warm start), and its embeddings before the alignment."""
    warm = WarmStart.load(before.model, before.graph / "full") if before and start == "warm" else None
    began = time.process_time()
    choice = choose(graph, config, lambda *_: None, start=warm, half=CHOOSING)
    trained = fit_everything(graph, config, choice.record.share, lambda *_: None, start=warm)
    cpu = time.process_time() - began
    save_model(model, trained, config.model)
    aligned = align_embeddings(trained.embeddings, before.embeddings) if before and start == "warm" else None
    embeddings = aligned[0] if aligned else trained.embeddings
    steps = (choice.record.steps, choice.record.schedule_steps)
    return Built(graph, model, embeddings, choice.weights, cpu, steps), trained.embeddings


def line(day: dt.date, start: str, built: Built, plain: Embeddings, before: Built | None, test: pa.Table) -> str:
    """One row of the table."""
    hits = measure(built, built.embeddings, test)
    stay = mixed = unaligned = "–"
    if before is not None:
        stay = f"{overlap(built.embeddings, before.embeddings):.2f}"
        mixed = f"{measure(built, with_queries_of(built.embeddings, before.embeddings), test)[1]:.3f}"
        unaligned = f"{measure(built, with_queries_of(plain, before.embeddings), test)[1]:.3f}"
    return (
        f"| {day:%d %b} | {start} | {built.cpu:.0f} | {built.steps[0]} of {built.steps[1]} "
        f"| {hits[0]:.3f} | {hits[1]:.3f} | {hits[2]:.3f} | {stay} | {mixed} | {unaligned} |"
    )


def measure(built: Built, embeddings: Embeddings, test: pa.Table) -> tuple[float, float, float]:
    """HR@20, HR@100 and tail HR@100 of the embeddings on the pairs of the next day, ranked as they are served."""
    catalogue = catalogue_of(embeddings, built.graph / "full", built.weights)
    edges = Edges.from_table(pq.read_table(built.graph / "full" / "edges"), catalogue.item_ids, built.weights)
    pairs = pairs_of("item", sessions_of(test, SESSION_KIND["item"]), catalogue.item_ids, catalogue.events)
    lists = EmbeddingRanker(catalogue, edges).rank(pairs.queries, 100)
    rank = np.zeros(len(pairs), np.int64)
    known = pairs.findable
    rank[known] = metrics.ranks(lists, pairs.query[known], pairs.target[known])
    tail = (pairs.events >= 1) & (pairs.events <= 5)
    hits = metrics.hits(rank, 100)
    return float(metrics.hits(rank, 20).mean()), float(hits.mean()), float(hits[tail].mean())


def with_queries_of(embeddings: Embeddings, before: Embeddings) -> Embeddings:
    """The embeddings, but with query vectors from the night before for all items that it had."""
    rows = pc.index_in(embeddings.item_ids, before.item_ids)
    shared = np.flatnonzero(rows.is_valid().to_numpy(zero_copy_only=False))
    query = embeddings.query.copy()
    query[shared] = before.query[rows.drop_null().to_numpy()]
    return Embeddings(
        embeddings.item_ids, query, embeddings.item, embeddings.tail_rows, embeddings.item_unaveraged, embeddings.prior
    )


def overlap(new: Embeddings, old: Embeddings) -> float:
    """Mean share of an item's 20 nearest neighbours (by cosine, among shared items) that are the same in both."""
    rows = pc.index_in(new.item_ids, old.item_ids)
    new_rows = np.flatnonzero(rows.is_valid().to_numpy(zero_copy_only=False))
    old_rows = rows.drop_null().to_numpy().astype(np.int64)
    probes = np.random.default_rng(0).choice(len(new_rows), min(PROBES, len(new_rows)), replace=False)
    lists = []
    for embeddings, shared in ((new, new_rows), (old, old_rows)):
        nearest = topk.search(
            np.asarray(embeddings.query)[shared[probes]], np.asarray(embeddings.item)[shared], NEIGHBOURS
        )
        lists.append([set(nearest.of(query)[0].tolist()) for query in range(len(probes))])
    return float(np.mean([len(a & b) / NEIGHBOURS for a, b in zip(*lists, strict=True)]))


def on_day(events: pa.Table, day: dt.date) -> pa.Table:
    """The events of one UTC day."""
    start = dt.datetime.combine(day, dt.time(), dt.UTC)
    after = pc.greater_equal(events["timestamp"], pa.scalar(start, pa.timestamp("us", "UTC")))
    until = pc.less(events["timestamp"], pa.scalar(start + dt.timedelta(days=1), pa.timestamp("us", "UTC")))
    return events.filter(pc.and_(after, until))


if __name__ == "__main__":
    sys.exit(main())
