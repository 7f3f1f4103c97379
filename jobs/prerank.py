"""The pre-ranker's part of a version: its weights learned on the hold-out, its counters then taken from all events."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jobs.config import Config
from jobs.errors import ConfigError
from jobs.progress import Report
from jobs.validation import held_sessions

if TYPE_CHECKING:
    from retrieval.exact import Rows, TopK
    from retrieval.prerank import Context, Counter, PreRanker
    from retrieval.ranking import EmbeddingRanker

log = logging.getLogger(__name__)

Ids = NDArray[np.object_]


@dataclass(frozen=True)
class Learned:
    """What the hold-out taught: the weight of the retrieval score, and of each counter with its scale."""

    score: float
    counters: dict[str, tuple[float, float, float]]
    """name → (weight, mean, deviation)"""

    @classmethod
    def of(cls, ranker: "PreRanker") -> "Learned":
        """Of a pre-ranker that was fitted."""
        weights = zip(ranker.weight[1:].tolist(), ranker.mean.tolist(), ranker.deviation.tolist(), strict=True)
        return cls(float(ranker.weight[0]), dict(zip([c.name for c in ranker.counters], weights, strict=True)))


class Lists(NamedTuple):
    """What retrieval found after the prefixes of held-out sessions, and what was opened next."""

    contexts: "list[Context]"
    found: "TopK"
    target: "Rows"
    """(L,) int64: the place of what was opened in its list, −1 if it is not there"""
    session: "Rows"

    def of(self, which: "Rows", ranker: "PreRanker | None") -> float:
        """The mean of HR@20 and MRR@20 of some lists, as retrieval ordered them or as a pre-ranker does."""
        total = 0.0
        for place in which[self.target[which] >= 0].tolist():
            at = int(self.target[place])
            if ranker is not None:
                rows, scores = self.line(place)
                wanted, (ordered, _) = rows[at], ranker.ordered(self.contexts[place], rows, scores)
                at = int(np.flatnonzero(ordered == wanted)[0])
            total += (at < 20) * (0.5 + 0.5 / (at + 1))
        return total / max(1, len(which))

    def line(self, place: int) -> "tuple[Rows, Any]":
        """The rows and scores of a list."""
        span = slice(self.found.offsets[place], self.found.offsets[place + 1])
        return self.found.rows[span], self.found.scores[span]


def better_than_retrieval(
    graph: Path, ranker: "EmbeddingRanker", config: Config, report: Report, half: int | None = None
) -> Learned | None:
    """A pre-ranker's weights, if with them more is found on the hold-out than by retrieval alone.

    It is judged on sessions that its weights were not learned from, by halves; what is returned is learned from all.

    Args:
        ranker: of the embeddings of `fit/`, which saw nothing of the hold-out; neither have the counters used here.
        half: 0 or 1: that half of the hold-out's sessions alone.
    """
    from retrieval.prerank_fit import fit

    report("counters", 0.0)
    counters = counted(graph, ranker.catalogue.item_ids, "fit")
    lists = lists_of(graph, ranker, config, half)
    if lists is None or not counters:
        log.warning("the hold-out has nothing to learn a pre-ranker from: none is served")
        return None

    def learned(which: "Rows") -> "PreRanker":
        lines = [lists.line(place) for place in which.tolist()]
        rows, scores = [line[0] for line in lines], [line[1] for line in lines]
        contexts = [lists.contexts[place] for place in which.tolist()]
        settings = config.prerank.model_dump(include={"smoothing", "depth"})
        return fit(counters, contexts, rows, scores, lists.target[which], **settings)

    folds = [np.flatnonzero(lists.session >> 1 & 1 == fold) for fold in (0, 1)]
    if not all((lists.target[fold] >= 0).any() for fold in folds):
        log.warning("too few held-out sessions open what retrieval finds: no pre-ranker is served")
        return None
    alone, ordered = 0.0, 0.0
    for done, fold in enumerate((0, 1)):
        report("pre-ranker", 0.2 + 0.4 * done)
        share = len(folds[fold]) / len(lists.target)
        alone += share * lists.of(folds[fold], None)
        ordered += share * lists.of(folds[fold], learned(folds[1 - fold]))
    better = ordered > alone
    log.info(
        "pre-ranker: %.4f on the hold-out, retrieval alone %.4f: it is %sserved",
        *(ordered, alone, "" if better else "not "),
    )
    return Learned.of(learned(np.arange(len(lists.target)))) if better else None


def pre_ranker(graph: Path, item_ids: Ids, learned: Learned, config: Config) -> "PreRanker":
    """The pre-ranker of a version: what was learned, over the counters of all events."""
    from retrieval.prerank import PreRanker

    counters = tuple(counter for counter in counted(graph, item_ids, "full") if counter.name in learned.counters)
    parts = np.array([learned.counters[counter.name] for counter in counters], np.float32).reshape(-1, 3)
    weight = np.concatenate([[learned.score], parts[:, 0]]).astype(np.float32)
    settings = config.prerank.smoothing, config.prerank.depth
    return PreRanker(counters, weight, parts[:, 1], parts[:, 2], *settings)


def counted(graph: Path, item_ids: Ids, level: str) -> "tuple[Counter, ...]":
    """The counters of a graph folder over a catalogue's rows, those of "full" or of "fit".

    Raises:
        ConfigError: the graph was built without counters.
    """
    from retrieval.prerank import Counter

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


def lists_of(graph: Path, ranker: "EmbeddingRanker", config: Config, half: int | None = None) -> Lists | None:
    """What retrieval finds after prefixes of held-out sessions, a sample where they are many; None without any."""
    from retrieval.catalogue import lookup
    from retrieval.prerank import Context
    from retrieval.ranking import Queries

    table = held_sessions(graph, config, half, ("searches", "country"))
    for kind in ("browse", "basket"):
        of_kind = table.filter(pc.equal(table["kind"], kind))
        if len(of_kind):
            break
    else:
        return None
    lengths = pc.list_value_length(of_kind["items"]).to_numpy()
    rows, known = lookup(ranker.catalogue.item_ids, pc.list_flatten(of_kind["items"]).combine_chunks())
    assert known.all(), "the graph's sessions hold its own items"
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    last = np.setdiff1d(np.arange(len(rows)), starts + lengths - 1)  # of each prefix
    last = last[rows[last] != rows[last + 1]]
    if len(last) > config.prerank.max_lists:
        last = np.sort(np.random.default_rng(0).choice(last, config.prerank.max_lists, replace=False))
    owner = np.repeat(np.arange(len(lengths)), lengths)[last]
    first = np.maximum(starts[owner], last + 1 - ranker.recent_items)
    offsets = np.concatenate([[0], np.cumsum(last + 1 - first)]).astype(np.int64)
    flat = np.arange(offsets[-1]) - np.repeat(offsets[:-1], np.diff(offsets)) + np.repeat(first, np.diff(offsets))
    found = ranker.rank(Queries(rows[flat], offsets), config.prerank.depth)
    line = np.repeat(np.arange(len(last)), np.diff(found.offsets))
    hit = np.flatnonzero(found.rows == rows[last + 1][line])
    target = np.full(len(last), -1, np.int64)
    target[line[hit]] = hit - found.offsets[:-1][line[hit]]
    searches = pc.list_flatten(of_kind["searches"]).take(pa.array(last)).to_pylist()
    countries = of_kind["country"].take(pa.array(owner)).to_pylist()
    contexts = [
        Context.of(rows[start : end + 1], ranker.config.recency_weight, hashed=search, country=country)
        for start, end, search, country in zip(first.tolist(), last.tolist(), searches, countries, strict=True)
    ]
    return Lists(contexts, found, target, of_kind["session"].to_numpy()[owner])


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
