"""Warm starts beside training from scratch, night after night: time, quality on the next day, neighbours that stay.

    python benchmarks/warm_start.py --events TRAIN [TEST] [--items ITEMS] --first 2014-09-25 --nights 4 --work DIR
        [--output TABLE.md] [--name SHOP]
    python benchmarks/warm_start.py --marketplace --work DIR [--output TABLE.md]

The events must reach to the day after the last night. The first night is trained from scratch, the others twice: from
scratch, and from the weights of the night before and aligned to it, each of the two a chain of its own. A night learns
from all days up to it; it is judged by the sessions of the next.
"""

import argparse
import datetime as dt
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from graph_build.config import InputConfig
from jobs.config import Config
from jobs.marketplace import MarketplaceConfig, generate
from jobs.nightly.comparison import CHOOSING
from jobs.pipeline.evaluate import SESSION_KIND, catalogue_of
from jobs.pipeline.graph_stage import build_graph
from jobs.pipeline.inputs import RunInputs
from jobs.pipeline.test_events import read_events
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
from retrieval.evaluation.sessions import sessions_from_table
from retrieval.ranking.embedding_ranker import EmbeddingRanker

NEIGHBOURS = 20
PROBES = 2000


@dataclass(frozen=True)
class Built:
    """A night's model, and what it took (CPU seconds of both fits)."""

    graph: Path
    model: Path
    embeddings: Embeddings
    weights: ScoreWeights
    cpu: float
    steps: tuple[int, int]


def main() -> int:
    """Build the graphs, train both chains, judge, print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--events", nargs="+")
    options.add_argument("--items")
    options.add_argument("--first", type=dt.date.fromisoformat)
    options.add_argument("--nights", type=int, default=4)
    options.add_argument("--marketplace", action="store_true", help="generated days instead")
    options.add_argument("--name", default="the shop")
    options.add_argument("--work", type=Path, required=True)
    options.add_argument("--output", type=Path)
    chosen = options.parse_args()
    if chosen.marketplace:
        settings = MarketplaceConfig()
        files = generate(settings, chosen.work / "marketplace")
        chosen.events, chosen.items = [str(files.events), str(files.test_events)], str(files.items)
        chosen.first, chosen.name = settings.start + dt.timedelta(days=settings.days - chosen.nights), "the demo's shop"
    days = [chosen.first + dt.timedelta(days=n) for n in range(chosen.nights)]
    config = Config()
    events = read_events(chosen.events, InputConfig())
    earliest = pc.min(events["timestamp"]).as_py().date()
    for day in days:
        folder = chosen.work / f"graph-{day}"
        if not (folder / "summary.json").exists():
            inputs = RunInputs(tuple(chosen.events), chosen.items)
            # The log's first day has none before it to fit on: its last sessions are held out.
            build_graph(inputs, folder, config, day, lambda *_: None, holdout_day=day if day > earliest else None)
            print(f"graph of {day}", file=sys.stderr, flush=True)
    lines = [
        f"## {chosen.name}",
        "",
        "| night | start | CPU s | steps (fit) | HR@20 | HR@100 | tail HR@100 | neighbours that stay | "
        "HR@100 of yesterday's queries | not aligned |",
        "|---|---|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    before: dict[str, Built] = {}
    for day in days:
        graph = chosen.work / f"graph-{day}"
        test = on_day(events, day + dt.timedelta(days=1))
        for start in ("scratch", "warm") if before else ("scratch",):
            built, plain = build(graph, chosen.work / f"model-{day}-{start}", config, before.get(start), start)
            lines.append(line(day, start, built, plain, before.get(start), test))
            print(lines[-1], file=sys.stderr, flush=True)
            before[start] = built
        before.setdefault("warm", before["scratch"])
    page = "\n".join(lines) + "\n"
    if chosen.output:
        chosen.output.write_text(page, encoding="utf-8")
    print(page)
    return 0


def build(graph: Path, model: Path, config: Config, before: Built | None, start: str) -> tuple[Built, Embeddings]:
    """(the night, aligned if warm; its embeddings as they were trained)."""
    warm = WarmStart.load(before.model, before.graph / "full") if before and start == "warm" else None
    began = time.process_time()
    chosen = choose(graph, config, lambda *_: None, start=warm, half=CHOOSING)
    trained = fit_everything(graph, config, chosen.record.share, lambda *_: None, start=warm)
    cpu = time.process_time() - began
    save_model(model, trained, config.model)
    found = align_embeddings(trained.embeddings, before.embeddings) if before and start == "warm" else None
    embeddings = found[0] if found else trained.embeddings
    steps = (chosen.record.steps, chosen.record.schedule_steps)
    return Built(graph, model, embeddings, chosen.weights, cpu, steps), trained.embeddings


def line(day: dt.date, start: str, built: Built, plain: Embeddings, before: Built | None, test: pa.Table) -> str:
    """A row of the table."""
    found = judged(built, built.embeddings, test)
    stay = mixed = unaligned = "–"
    if before is not None:
        stay = f"{overlap(built.embeddings, before.embeddings):.2f}"
        mixed = f"{judged(built, borrowed(built.embeddings, before.embeddings), test)[1]:.3f}"
        unaligned = f"{judged(built, borrowed(plain, before.embeddings), test)[1]:.3f}"
    return (
        f"| {day:%d %b} | {start} | {built.cpu:.0f} | {built.steps[0]} of {built.steps[1]} "
        f"| {found[0]:.3f} | {found[1]:.3f} | {found[2]:.3f} | {stay} | {mixed} | {unaligned} |"
    )


def judged(built: Built, embeddings: Embeddings, test: pa.Table) -> tuple[float, float, float]:
    """HR@20, HR@100, tail HR@100 of the embeddings on the next day's pairs, ranked as they are served."""
    catalogue = catalogue_of(embeddings, built.graph / "full", built.weights)
    edges = Edges.from_table(pq.read_table(built.graph / "full" / "edges"), catalogue.item_ids, built.weights)
    pairs = pairs_of("item", sessions_from_table(test, SESSION_KIND["item"]), catalogue.item_ids, catalogue.events)
    found = EmbeddingRanker(catalogue, edges).rank(pairs.queries, 100)
    place = np.zeros(len(pairs), np.int64)
    known = pairs.findable
    place[known] = metrics.ranks(found, pairs.query[known], pairs.target[known])
    tail = (pairs.events >= 1) & (pairs.events <= 5)
    hits = metrics.hits(place, 100)
    return float(metrics.hits(place, 20).mean()), float(hits.mean()), float(hits[tail].mean())


def borrowed(embeddings: Embeddings, before: Embeddings) -> Embeddings:
    """The same catalogue, asked by yesterday's query vectors where there are any."""
    rows = pc.index_in(embeddings.item_ids, before.item_ids)
    shared = np.flatnonzero(rows.is_valid().to_numpy(zero_copy_only=False))
    query = embeddings.query.copy()
    query[shared] = before.query[rows.drop_null().to_numpy()]
    return Embeddings(
        embeddings.item_ids, query, embeddings.item, embeddings.tail_rows, embeddings.item_unaveraged, embeddings.prior
    )


def overlap(one: Embeddings, other: Embeddings) -> float:
    """Mean share of the 20 nearest items by the cosine alone, among shared ones, that are the same in both."""
    rows = pc.index_in(one.item_ids, other.item_ids)
    mine = np.flatnonzero(rows.is_valid().to_numpy(zero_copy_only=False))
    theirs = rows.drop_null().to_numpy().astype(np.int64)
    probes = np.random.default_rng(0).choice(len(mine), min(PROBES, len(mine)), replace=False)
    lists = []
    for embeddings, shared in ((one, mine), (other, theirs)):
        found = topk.search(
            np.asarray(embeddings.query)[shared[probes]], np.asarray(embeddings.item)[shared], NEIGHBOURS
        )
        lists.append([set(found.of(query)[0].tolist()) for query in range(len(probes))])
    return float(np.mean([len(a & b) / NEIGHBOURS for a, b in zip(*lists, strict=True)]))


def on_day(events: pa.Table, day: dt.date) -> pa.Table:
    """The events of a UTC day."""
    begin = dt.datetime.combine(day, dt.time(), dt.UTC)
    after = pc.greater_equal(events["timestamp"], pa.scalar(begin, pa.timestamp("us", "UTC")))
    until = pc.less(events["timestamp"], pa.scalar(begin + dt.timedelta(days=1), pa.timestamp("us", "UTC")))
    return events.filter(pc.and_(after, until))


if __name__ == "__main__":
    sys.exit(main())
