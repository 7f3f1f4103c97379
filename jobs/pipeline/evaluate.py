"""`lightsage evaluate`: how well a version finds what shoppers did next, on events after its as-of time.

The protocols, metrics and counting peers live in `retrieval`; here they meet a version's folders and the test events.
"""

import datetime as dt
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.config import Config
from jobs.errors import JobError
from jobs.pipeline.test_events import read_events
from jobs.progress import ProgressCallback

if TYPE_CHECKING:
    from model.embeddings import Embeddings
    from retrieval.catalogue.edges import Edges
    from retrieval.catalogue.items import Catalogue
    from retrieval.config import ScoreWeights
    from retrieval.queries import Ranker

log = logging.getLogger(__name__)

KIND = {"item": "browse", "session": "browse", "basket": "basket"}


class OverlapError(JobError):
    """Test events are not after the version's as-of time."""


@dataclass(frozen=True)
class EvaluateOptions:
    """What `evaluate` was asked for."""

    protocol: str = "item"
    ads_only: bool = False
    include_current: bool = False
    allow_overlap: bool = False
    baselines: bool = False


def evaluate_version(
    version: Path,
    name: str,
    events: Sequence[str],
    config: Config,
    options: EvaluateOptions,
    report: ProgressCallback,
) -> dict[str, Any]:
    """The content of REPORT.json.

    Raises:
        OverlapError: a test event is at or before the as-of time, and that was not allowed.
        TableError, RetrievalError: the events do not fit the contract or hold nothing to measure.
    """
    from retrieval.evaluation.pairs import pairs_of
    from retrieval.evaluation.protocols import evaluate
    from retrieval.evaluation.sessions import sessions_from_table
    from retrieval.index_folder import read_index
    from retrieval.ranking.embedding_ranker import EmbeddingRanker
    from retrieval.ranking.reranked import RerankedRanker

    report("reading", 0.0)
    index = read_index(version / "index")
    table = read_events(events, config.graph.input)
    early = int(
        pc.sum(pc.less_equal(table["timestamp"], pa.scalar(index.as_of, pa.timestamp("us", "UTC")))).as_py() or 0
    )
    if early and not options.allow_overlap:
        raise OverlapError(
            f"{early:,} of {len(table):,} test events are not after the version's as-of time "
            f"{index.as_of.isoformat()}: the model may have been trained on them. Give later events, or "
            "--allow-overlap, which is recorded"
        )
    if options.ads_only and index.ads is None:
        raise JobError("--ads-only needs a version that was built with an ads table (lightsage run --ads)")
    sessions = sessions_from_table(table, KIND[options.protocol])
    catalogue = index.catalogue
    pairs = pairs_of(
        options.protocol,
        sessions,
        catalogue.item_ids,
        catalogue.events,
        ads=index.ads if options.ads_only else None,
        include_current=options.include_current,
    )
    ours = EmbeddingRanker(catalogue, index.edges, config.retrieval, index.session_encoder)
    rankers: dict[str, Ranker] = {"LightSAGE": ours}
    if index.reranker is not None:
        rankers = {"LightSAGE": RerankedRanker(ours, index.reranker)}
        if options.baselines:
            rankers["LightSAGE, not pre-ranked"] = ours
    if options.baselines:
        rankers |= counting_peers(version / "graph", catalogue, index.edges)
    rows = []
    for done, (model, ranker) in enumerate(rankers.items()):
        report(model, done / len(rankers))
        ads = index.ads if options.ads_only else None
        rows += evaluate(model, ranker, pairs, protocol=options.protocol, ads=ads)
    result: dict[str, Any] = {
        "version": name,
        "as_of": index.as_of.isoformat(),
        "protocol": options.protocol,
        "rows": rows,
    }
    result |= {name: True for name in ("ads_only", "include_current") if getattr(options, name)}
    if early:
        result["overlapping_events"] = early
    return result


def write_report(path: Path, result: dict[str, Any]) -> None:
    """Write REPORT.json whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".part")
    scratch.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    scratch.replace(path)


def counting_peers(graph: Path, catalogue: "Catalogue", edges: "Edges", *, held: bool = True) -> "dict[str, Ranker]":
    """The counting baselines, from the same training sessions and graph that the version was built from.

    `held`: whether they count the sessions of the hold-out, too.
    """
    from retrieval.catalogue.items import lookup
    from retrieval.evaluation.baselines import ItemKNN, Popularity, Rules, Swing, TrainingSessions, Transitions
    from retrieval.evaluation.sessions import sessions_from_graph

    chosen = None if held else ~pc.field("held")
    table = pq.read_table(graph / "sessions", columns=["session", "kind", "items", "times"], filters=chosen)
    sessions = sessions_from_graph(table, "browse")
    if not len(sessions):
        sessions = sessions_from_graph(table, "basket")
    rows, _ = lookup(catalogue.item_ids, sessions.item_ids)
    training = TrainingSessions(rows, sessions.offsets, catalogue.n_rows)
    return {
        "transitions": Transitions(training),
        "rules": Rules(training),
        "item-kNN": ItemKNN(training),
        "Swing": Swing(edges),
        "popularity": Popularity(catalogue.popularity),
    }


def catalogue_of(embeddings: "Embeddings", graph: Path, weights: "ScoreWeights") -> "Catalogue":
    """A catalogue to rank, from embeddings in memory and a graph's nodes."""
    from retrieval.catalogue.items import Catalogue
    from retrieval.catalogue.score_terms import item_bias

    nodes = pq.read_table(graph / "nodes", columns=["item_id", "events", "popularity"]).sort_by("item_id")
    events = nodes["events"].to_numpy().astype(np.int64)
    return Catalogue(
        item_ids=np.array(embeddings.item_ids.to_pylist(), dtype=object),
        query=embeddings.query,
        item=embeddings.item,
        tail_rows=embeddings.tail_rows,
        item_unaveraged=embeddings.item_unaveraged,
        events=events,
        popularity=nodes["popularity"].to_numpy().astype(np.float64),
        bias=item_bias(embeddings.prior, events, weights),
        attributes=pa.table({"item_id": embeddings.item_ids}),
    )


def as_time(value: str) -> dt.datetime:
    """An ISO 8601 time; without an offset it is UTC."""
    try:
        time = dt.datetime.fromisoformat(value)
    except ValueError:
        raise JobError(f"{value!r} is no ISO 8601 time, e.g. 2026-03-14T09:30:00Z") from None
    try:
        return time.replace(tzinfo=dt.UTC) if time.tzinfo is None else time.astimezone(dt.UTC)
    except OverflowError:
        raise JobError(f"{value!r} is out of range in UTC") from None
