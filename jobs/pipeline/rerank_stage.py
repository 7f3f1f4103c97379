"""The pre-ranker of a version, which reorders the results of retrieval by counters of interactions.

Its weights are learned on the hold-out. Its counters cover all events.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jobs.config import Config
from jobs.errors import ConfigError
from jobs.pipeline.rerank_lists import RankedLists, retrieved_lists, shown_lists
from jobs.progress import ProgressCallback

if TYPE_CHECKING:
    from retrieval.ranking.embedding_ranker import EmbeddingRanker
    from retrieval.ranking.reranker import Counter, Reranker

log = logging.getLogger(__name__)

Ids = NDArray[np.object_]
# If there are lists that shoppers saw, each of them weighs 1 in training, and each retrieved list weighs this.
RETRIEVED_WEIGHT = 0.01


@dataclass(frozen=True)
class RerankerWeights:
    """The weights that were learned on the hold-out.

    Args:
        score: weight of the retrieval score.
        counters: name → (weight, mean, deviation) of each counter.
    """

    score: float
    counters: dict[str, tuple[float, float, float]]

    @classmethod
    def of(cls, reranker: "Reranker") -> "RerankerWeights":
        """Take the weights of a fitted pre-ranker."""
        parts = (reranker.weight[1:].tolist(), reranker.mean.tolist(), reranker.deviation.tolist())
        names = [counter.name for counter in reranker.counters]
        return cls(float(reranker.weight[0]), dict(zip(names, zip(*parts, strict=True), strict=True)))


def choose_reranker(
    graph: Path,
    ranker: "EmbeddingRanker",
    counters: "tuple[Counter, ...]",
    config: Config,
    report: ProgressCallback,
    half: int | None = None,
) -> RerankerWeights | None:
    """Learn a pre-ranker on the hold-out; return its weights if it scores higher there than retrieval alone, else None.

    To measure the pre-ranker, each half of the sessions is ranked with weights that were learned from the other half.
    The returned weights are learned from both halves.

    Args:
        graph: folder of the item graph.
        ranker: the ranker over the embeddings of `fit/`, which were trained without the hold-out.
        counters: the counters of `fit/`, which were counted without the hold-out.
        config: the full configuration.
        report: called with the progress.
        half: which half of the hold-out's sessions to use, 0 or 1; None = all.
    """
    retrieved = retrieved_lists(graph, ranker, config, half)
    if retrieved is None or not counters:
        log.warning("no pre-ranker is served: the hold-out has nothing to learn one from")
        return None
    shown = shown_lists(graph, ranker, config, half)

    def fitted(folds: tuple[int, ...]) -> "Reranker":
        return _fit_reranker(counters, retrieved, shown, folds, config)

    folds = [np.flatnonzero(retrieved.fold == fold) for fold in (0, 1)]
    if not all((retrieved.target[fold] >= 0).any() for fold in folds):
        log.warning("no pre-ranker is served: too few held-out sessions open what retrieval finds")
        return None
    unordered, ordered = 0.0, 0.0
    for fold in (0, 1):
        report("pre-ranker", 0.2 + 0.4 * fold)
        share = len(folds[fold]) / len(retrieved.target)
        unordered += share * retrieved.score(folds[fold], None)
        ordered += share * retrieved.score(folds[fold], fitted((1 - fold,)))
    better = ordered > unordered
    log.info(
        "pre-ranker: %.4f on the hold-out, retrieval alone %.4f: it is %sserved",
        *(ordered, unordered, "" if better else "not "),
    )
    return RerankerWeights.of(fitted((0, 1))) if better else None


def _fit_reranker(
    counters: "tuple[Counter, ...]",
    retrieved: RankedLists,
    shown: RankedLists | None,
    folds: tuple[int, ...],
    config: Config,
) -> "Reranker":
    """Fit a pre-ranker on some folds. Lists that shoppers saw, if there are any, weigh more than retrieved lists."""
    from retrieval.ranking.reranker_fit import TrainingLists, fit

    contexts, candidates, target, weight = [], [], [], []
    parts = [(retrieved, 1.0)] if shown is None else [(shown, 1.0), (retrieved, RETRIEVED_WEIGHT)]
    for lists, list_weight in parts:
        for number in np.flatnonzero(np.isin(lists.fold, folds)).tolist():
            contexts.append(lists.contexts[number])
            candidates.append(lists.candidates(number))
            target.append(lists.target[number])
            weight.append(list_weight)
    rows, scores = zip(*candidates, strict=True)
    settings = config.prerank.model_dump(include={"smoothing", "depth"})
    training = TrainingLists(contexts, rows, scores, np.array(target), np.array(weight))
    return fit(counters, training, **settings)


def build_reranker(graph: Path, item_ids: Ids, weights: RerankerWeights, config: Config) -> "Reranker":
    """Build the pre-ranker of a version: the learned weights, over the counters of all events.

    Args:
        graph: folder of the item graph.
        item_ids: the ids of the catalogue's items, by row.
        weights: the weights that were learned on the hold-out.
        config: the full configuration.
    """
    from retrieval.ranking.reranker import Reranker

    counters = tuple(counter for counter in read_counters(graph, item_ids, "full") if counter.name in weights.counters)
    parts = np.array([weights.counters[counter.name] for counter in counters], np.float32).reshape(-1, 3)
    weight = np.concatenate([[weights.score], parts[:, 0]]).astype(np.float32)
    settings = config.prerank.smoothing, config.prerank.depth
    return Reranker(counters, weight, parts[:, 1], parts[:, 2], *settings)


def read_counters(graph: Path, item_ids: Ids, level: str) -> "tuple[Counter, ...]":
    """Read the counters of a graph folder, over the rows of a catalogue.

    Args:
        graph: folder of the item graph.
        item_ids: the ids of the catalogue's items, by row.
        level: "full" = counts of all events, "fit" = counts of the events before the hold-out.

    Raises:
        ConfigError: the graph was built without counters.
    """
    from retrieval.ranking.reranker import Counter

    folder = graph / "counters"
    if not folder.exists():
        raise ConfigError(
            f"{folder} is missing: the graph was built without counters, which [prerank] needs; build it with "
            "counters = true under [graph]"
        )
    table = pq.read_table(folder, columns=["kind", "src", "dst", level], filters=pc.field(level) > 0)
    entities = _entities(graph, item_ids)
    counters = []
    for kind in sorted(pc.unique(table["kind"]).to_pylist()):
        rows = table.filter(pc.equal(table["kind"], kind))
        src, dst = kind.split(">")
        names, item_of = entities[dst]
        item, weight = _codes(rows["dst"], names), rows[level].to_numpy().astype(np.float32)
        if src in entities:
            names, query_of = entities[src]
            query = _codes(rows["src"], names)
            counters.append(Counter.of_entities(kind, query, item, weight, item_of, query_of=query_of))
        else:
            keys = np.unique(np.array(rows["src"].to_pylist(), np.str_))
            query = _codes(rows["src"], pa.array(keys.tolist(), pa.string()))
            counters.append(Counter.of_entities(kind, query, item, weight, item_of, keys=keys))
    return tuple(counters)


def _entities(graph: Path, item_ids: Ids) -> dict[str, tuple[pa.Array, NDArray[np.int32]]]:
    """Return kind of entity → (the names of the E entities, the index of each row's entity (N,), −1 for none)."""
    ids = pa.array(item_ids, pa.string())
    entities = {"item": (ids, np.arange(len(ids), dtype=np.int32))}
    tables, columns = graph / "tables", {}
    if (tables / "items").exists():
        items = pq.read_table(tables / "items")
        names = [name for name in ("category", "brand") if name in items.column_names]
        columns = {name: (items["item_id"], items[name]) for name in names}
    if (tables / "ads").exists():
        ads = pq.read_table(tables / "ads", columns=["item_id", "advertiser_id"])
        first = ads.filter(pc.is_valid(ads["advertiser_id"])).group_by("item_id").aggregate([("advertiser_id", "min")])
        columns["advertiser"] = (first["item_id"], first["advertiser_id_min"])
    for kind, (owners, values) in columns.items():
        owner_of_row = pc.index_in(ids, value_set=owners.combine_chunks())
        value_of_row = values.combine_chunks().take(owner_of_row).cast(pa.string())
        distinct = pc.unique(value_of_row.drop_null()).sort()
        entities[kind] = (distinct, _codes(value_of_row, distinct))
    return entities


def _codes(values: Any, names: pa.Array) -> NDArray[np.int32]:
    """Return the index of each value among the names, −1 for a value that is not among them."""
    codes = pc.fill_null(pc.index_in(values, value_set=names), -1)
    return codes.to_numpy().astype(np.int32) if isinstance(codes, pa.ChunkedArray) else np.asarray(codes, np.int32)
