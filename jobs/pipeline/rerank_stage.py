"""The pre-ranker's part of a version: its weights learned on the hold-out, its counters then taken from all events."""

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
from jobs.pipeline.rerank_lists import lists_of, shown_lists
from jobs.progress import ProgressCallback

if TYPE_CHECKING:
    from retrieval.ranking.embedding_ranker import EmbeddingRanker
    from retrieval.ranking.reranker import Counter, Reranker

log = logging.getLogger(__name__)

Ids = NDArray[np.object_]
# Beside lists that shoppers saw, what a list that retrieval found counts.
RETRIEVED = 0.01


@dataclass(frozen=True)
class RerankerWeights:
    """What the hold-out taught: the weight of the retrieval score, and of each counter with its scale."""

    score: float
    counters: dict[str, tuple[float, float, float]]
    """name → (weight, mean, deviation)"""

    @classmethod
    def of(cls, ranker: "Reranker") -> "RerankerWeights":
        """Of a pre-ranker that was fitted."""
        weights = zip(ranker.weight[1:].tolist(), ranker.mean.tolist(), ranker.deviation.tolist(), strict=True)
        return cls(float(ranker.weight[0]), dict(zip([c.name for c in ranker.counters], weights, strict=True)))


def better_than_retrieval(
    graph: Path, ranker: "EmbeddingRanker", config: Config, report: ProgressCallback, half: int | None = None
) -> RerankerWeights | None:
    """A pre-ranker's weights, if with them more is found on the hold-out than by retrieval alone.

    It is judged on sessions that its weights were not learned from, by halves; what is returned is learned from all.

    Args:
        ranker: of the embeddings of `fit/`, which saw nothing of the hold-out; neither have the counters used here.
        half: 0 or 1: that half of the hold-out's sessions alone.
    """
    from retrieval.ranking.reranker_fit import TrainingLists, fit

    report("counters", 0.0)
    counters = counted(graph, ranker.catalogue.item_ids, "fit")
    lists = lists_of(graph, ranker, config, half)
    if lists is None or not counters:
        log.warning("the hold-out has nothing to learn a pre-ranker from: none is served")
        return None

    shown = shown_lists(graph, ranker, config, half)

    def learned(folds: tuple[int, ...]) -> "Reranker":
        contexts, lines, target, weight = [], [], [], []
        parts = [(lists, 1.0)] if shown is None else [(shown, 1.0), (lists, RETRIEVED)]
        for part, counts in parts:
            for place in np.flatnonzero(np.isin(part.fold, folds)).tolist():
                contexts.append(part.contexts[place])
                lines.append(part.line(place))
                target.append(part.target[place])
                weight.append(counts)
        rows, scores = zip(*lines, strict=True)
        settings = config.prerank.model_dump(include={"smoothing", "depth"})
        training = TrainingLists(contexts, rows, scores, np.array(target), np.array(weight))
        return fit(counters, training, **settings)

    folds = [np.flatnonzero(lists.fold == fold) for fold in (0, 1)]
    if not all((lists.target[fold] >= 0).any() for fold in folds):
        log.warning("too few held-out sessions open what retrieval finds: no pre-ranker is served")
        return None
    alone, ordered = 0.0, 0.0
    for done, fold in enumerate((0, 1)):
        report("pre-ranker", 0.2 + 0.4 * done)
        share = len(folds[fold]) / len(lists.target)
        alone += share * lists.of(folds[fold], None)
        ordered += share * lists.of(folds[fold], learned((1 - fold,)))
    better = ordered > alone
    log.info(
        "pre-ranker: %.4f on the hold-out, retrieval alone %.4f: it is %sserved",
        *(ordered, alone, "" if better else "not "),
    )
    return RerankerWeights.of(learned((0, 1))) if better else None


def pre_ranker(graph: Path, item_ids: Ids, learned: RerankerWeights, config: Config) -> "Reranker":
    """The pre-ranker of a version: what was learned, over the counters of all events."""
    from retrieval.ranking.reranker import Reranker

    counters = tuple(counter for counter in counted(graph, item_ids, "full") if counter.name in learned.counters)
    parts = np.array([learned.counters[counter.name] for counter in counters], np.float32).reshape(-1, 3)
    weight = np.concatenate([[learned.score], parts[:, 0]]).astype(np.float32)
    settings = config.prerank.smoothing, config.prerank.depth
    return Reranker(counters, weight, parts[:, 1], parts[:, 2], *settings)


def counted(graph: Path, item_ids: Ids, level: str) -> "tuple[Counter, ...]":
    """The counters of a graph folder over a catalogue's rows, those of "full" or of "fit".

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
    sides = _entities(graph, item_ids)
    found = []
    for kind in sorted(pc.unique(table["kind"]).to_pylist()):
        rows = table.filter(pc.equal(table["kind"], kind))
        src, dst = kind.split(">")
        names, item_of = sides[dst]
        item, weight = _codes(rows["dst"], names), rows[level].to_numpy().astype(np.float32)
        if src in sides:
            names, query_of = sides[src]
            query = _codes(rows["src"], names)
            found.append(Counter.of_entities(kind, query, item, weight, item_of, query_of=query_of))
        else:
            keys = np.unique(np.array(rows["src"].to_pylist(), np.str_))
            query = _codes(rows["src"], pa.array(keys.tolist(), pa.string()))
            found.append(Counter.of_entities(kind, query, item, weight, item_of, keys=keys))
    return tuple(found)


def _entities(graph: Path, item_ids: Ids) -> dict[str, tuple[pa.Array, NDArray[np.int32]]]:
    """Of each side that belongs to an item: its names (E,), and which of them each row has, (N,), −1 for none."""
    ids = pa.array(item_ids, pa.string())
    sides = {"item": (ids, np.arange(len(ids), dtype=np.int32))}
    tables, listed = graph / "tables", {}
    if (tables / "items").exists():
        items = pq.read_table(tables / "items")
        listed = {name: (items["item_id"], items[name]) for name in ("category", "brand") if name in items.column_names}
    if (tables / "ads").exists():
        ads = pq.read_table(tables / "ads", columns=["item_id", "advertiser_id"])
        first = ads.filter(pc.is_valid(ads["advertiser_id"])).group_by("item_id").aggregate([("advertiser_id", "min")])
        listed["advertiser"] = (first["item_id"], first["advertiser_id_min"])
    for name, (owners, values) in listed.items():
        place = pc.index_in(ids, value_set=owners.combine_chunks())
        of_item = values.combine_chunks().take(place).cast(pa.string())
        names = pc.unique(of_item.drop_null()).sort()
        sides[name] = (names, _codes(of_item, names))
    return sides


def _codes(values: Any, names: pa.Array) -> NDArray[np.int32]:
    found = pc.fill_null(pc.index_in(values, value_set=names), -1)
    return found.to_numpy().astype(np.int32) if isinstance(found, pa.ChunkedArray) else np.asarray(found, np.int32)
