"""`lightsage evaluate`: measures on events after a version's as-of time how well the version finds the targets.

Protocols, metrics and counting peers are in `retrieval`; this file applies them to a version's folders and test
events.
"""

import datetime as dt
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from graph_build.config import InputConfig
from jobs.config import Config
from jobs.errors import JobError
from jobs.pipeline.evaluation_events import read_events, sessions_of
from jobs.progress import ProgressCallback

if TYPE_CHECKING:
    from model.embeddings import Embeddings
    from retrieval.catalogue.edges import Edges
    from retrieval.catalogue.items import Catalogue
    from retrieval.config import RetrievalConfig, ScoreWeights
    from retrieval.evaluation.pairs import Pairs
    from retrieval.index_folder import Index
    from retrieval.queries import Ranker

log = logging.getLogger(__name__)

SESSION_KIND = {"item": "browse", "session": "browse", "basket": "basket"}
"""Protocol → the kind of session that it measures."""


MAX_UNKNOWN_SHARE = 0.5
"""If a larger share of the test events has items that the version does not know, the figures say little about it."""


class OverlapError(JobError):
    """Test events are not after the version's as-of time."""


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of `evaluate`.

    Args:
        protocol: `item`, `session` or `basket`.
        ads_only: candidates and targets are items with an eligible ad.
        include_current: the current item may be the target.
        allow_overlap: accept events that are not after the as-of time; the report records their number.
        baselines: measure the counting peers as well.
    """

    protocol: str = "item"
    ads_only: bool = False
    include_current: bool = False
    allow_overlap: bool = False
    baselines: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of a version that are read: its index and, for the counting peers, its training sessions."""
        return ("index", "graph/sessions") if self.baselines else ("index",)


def evaluate_version(
    version: Path,
    name: str,
    events: Sequence[str],
    config: Config,
    options: EvaluateOptions,
    report: ProgressCallback,
) -> dict[str, Any]:
    """Measure a version on later events; return the content of REPORT.json.

    Args:
        version: folder of the version.
        name: the name of the version.
        events: files or folders of test events.
        config: the full configuration.
        options: what to measure, and how.
        report: called with the progress.

    Raises:
        OverlapError: a test event is not after the as-of time, and `options` do not allow that.
        JobError: `ads_only` is set, but the version has no ads.
        TableError, RetrievalError: the events do not fit the contract, or hold nothing to measure.
    """
    from retrieval.evaluation.protocols import evaluate
    from retrieval.index_folder import read_index

    report("reading", 0.0)
    index = read_index(version / "index")
    table = read_events(events, config.graph.input)
    overlapping = overlapping_events(table, index.as_of, name, allow=options.allow_overlap)
    unknown_share = share_of_unknown(table, index.catalogue.item_ids.tolist(), name)
    if options.ads_only and index.ads is None:
        raise JobError("--ads-only needs a version that was built with an ads table (lightsage run --ads)")
    pairs = _test_pairs(table, index, options, config.graph.input)
    rankers = _rankers(version, index, config, options)
    rows = []
    for done, (model, ranker) in enumerate(rankers.items()):
        report(model, done / len(rankers))
        ads = index.ads if options.ads_only else None
        rows += evaluate(model, ranker, pairs, protocol=options.protocol, ads=ads)
    content: dict[str, Any] = {
        "version": name,
        "as_of": index.as_of.isoformat(),
        "protocol": options.protocol,
        "rows": rows,
    }
    content |= {name: True for name in ("ads_only", "include_current") if getattr(options, name)}
    if unknown_share > MAX_UNKNOWN_SHARE:
        content["unknown_share"] = round(unknown_share, 4)
    if overlapping:
        content["overlapping_events"] = overlapping
    return content


def share_of_unknown(table: pa.Table, item_ids: list[str], name: str) -> float:
    """Return the share of test events whose item a version does not know; warn, with a likely reason, if it is large.

    Args:
        table: the test events.
        item_ids: the items that the version knows.
        name: the name of the version.
    """
    from graph_build.ingest.values import loose_id

    items = pc.if_else(pc.equal(table["event_type"], "search"), None, table["item_id"]).drop_null()
    is_unknown = pc.invert(pc.is_in(items, pa.array(item_ids, pa.string())))
    n_unknown = int(pc.sum(is_unknown).as_py() or 0)
    share = n_unknown / max(1, len(items))
    if share <= MAX_UNKNOWN_SHARE:
        return share
    unknown = pc.unique(items.filter(is_unknown)).to_pylist()
    known = {loose_id(item): item for item in item_ids}
    alike = next(((item, known[loose_id(item)]) for item in unknown if loose_id(item) in known), None)
    hint = f"e.g. {unknown[0]!r}; are these the ids of the same shop?"
    if alike is not None:
        hint = f"e.g. {alike[0]!r}, which the version may know as {alike[1]!r}: zeros of the ids may be lost"
    log.warning("%s of %s test events are of items that %s does not know, %s", n_unknown, len(items), name, hint)
    return share


def overlapping_events(table: pa.Table, as_of: dt.datetime, name: str, *, allow: bool = False) -> int:
    """Return the number of test events that are not after the as-of time of a version.

    Args:
        table: the test events.
        as_of: the as-of time.
        name: the name of the version.
        allow: whether such events are allowed.

    Raises:
        OverlapError: there are such events, and they are not allowed.
    """
    early = pc.less_equal(table["timestamp"], pa.scalar(as_of, pa.timestamp("us", "UTC")))
    count = int(pc.sum(early).as_py() or 0)
    if count and not allow:
        raise OverlapError(
            f"{count:,} of {len(table):,} test events are not after the version's as-of time {as_of.isoformat()} "
            f"({name}): the model may have been trained on them. Give later events, or --allow-overlap, which is "
            "recorded"
        )
    return count


def _test_pairs(table: pa.Table, index: "Index", options: EvaluateOptions, config: InputConfig) -> "Pairs":
    from retrieval.evaluation.pairs import pairs_of

    return pairs_of(
        options.protocol,
        sessions_of(table, SESSION_KIND[options.protocol], config),
        index.catalogue.item_ids,
        index.catalogue.events,
        ads=index.ads if options.ads_only else None,
        include_current=options.include_current,
    )


def _rankers(version: Path, index: "Index", config: Config, options: EvaluateOptions) -> "dict[str, Ranker]":
    """Return name → ranker of each model that is measured: the version as it is served, and its peers."""
    rankers: dict[str, Ranker] = {"LightSAGE": served_ranker(index, config.retrieval)}
    if index.reranker is not None and options.baselines:
        rankers["LightSAGE, not pre-ranked"] = served_ranker(replace(index, reranker=None), config.retrieval)
    if options.baselines:
        rankers |= counting_peers(version / "graph", index.catalogue, index.edges)
    return rankers


def served_ranker(index: "Index", config: "RetrievalConfig") -> "Ranker":
    """Return the ranker that answers as a server of this index does.

    Args:
        index: the index of a version.
        config: the settings of retrieval.
    """
    from retrieval.ranking.embedding_ranker import EmbeddingRanker
    from retrieval.ranking.reranked import RerankedRanker

    served = EmbeddingRanker(index.catalogue, index.edges, config, index.session_encoder)
    return served if index.reranker is None else RerankedRanker(served, index.reranker)


def write_report(path: Path, content: dict[str, Any]) -> None:
    """Write REPORT.json in one step.

    Args:
        path: the path of the file.
        content: result of `evaluate_version`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".part")
    scratch.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    scratch.replace(path)


def counting_peers(
    graph: Path, catalogue: "Catalogue", edges: "Edges", where: "pc.Expression | None" = None
) -> "dict[str, Ranker]":
    """Return name → ranker of the counting baselines, made from the training sessions and the graph of a version.

    Args:
        graph: folder of the item graph.
        catalogue: the catalogue whose rows the baselines rank.
        edges: the edges among the same rows, for Swing.
        where: the sessions to count; None = all.
    """
    from retrieval.catalogue.items import lookup
    from retrieval.evaluation.baselines import ItemKNN, Popularity, Rules, Swing, TrainingSessions, Transitions
    from retrieval.evaluation.sessions import sessions_from_graph

    table = pq.read_table(graph / "sessions", columns=["session", "kind", "items", "times"], filters=where)
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
    """Return a catalogue for a ranker, made from embeddings in memory.

    Args:
        embeddings: the embeddings of the items.
        graph: folder of the graph on which the embeddings were trained, `full/` or `fit/`.
        weights: the weights of the score's terms.
    """
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
    """Parse an ISO 8601 time; a time without an offset is in UTC.

    Raises:
        JobError: the text is not an ISO 8601 time, or the time is out of range.
    """
    from retrieval.values import parse_time, to_datetime

    time = parse_time(value)
    if time is None:
        raise JobError(f"{value!r} is not an ISO 8601 time such as 2026-03-14T09:30:00Z")
    try:
        return to_datetime(time)
    except OverflowError:
        raise JobError(f"{value!r} is out of range in UTC") from None
