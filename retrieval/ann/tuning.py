"""Builds the approximate index: tunes several kinds to a target recall, and takes the cheapest."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import faiss
import numpy as np

from retrieval import topk
from retrieval.ann.faiss_index import FILTERED_PERCENT, Ann, Selection, with_bias
from retrieval.ann.matryoshka import unit_prefix
from retrieval.arrays import Floats, Rows
from retrieval.config import RetrievalConfig

_log = logging.getLogger(__name__)
_RECALL_AT = 100
_ADD_ROWS = 65_536
_FILTERED_QUERIES = 100
# The shortlists to try, in multiples of k rows. Eight bits lose little precision, so ivf_sq8 needs no longer ones.
_SHORTLISTS = {"ivf_sq8": (3,), "ivf_pq4": (3, 6, 10), "flat": (1,)}
# The shortlists to try for a prefix: the coarser the order by the prefix, the longer the shortlist has to be.
_PREFIX_SHORTLISTS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96)
# The cheapest setting is chosen once this many reach the target: a longer shortlist may need fewer inverted lists.
_SETTINGS_AT_TARGET = 3
# A later kind is preferred only if an earlier one takes more than this many times its CPU time: timing is noisy.
_WORTHWHILE = 1.25
# Four-bit codes cannot be learned from fewer vectors than this.
_FEWEST_ROWS = 16

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Tuned:
    """One kind of index at its best setting; microseconds: CPU time per query on one thread, exact ranking included."""

    kind: str
    parameters: dict[str, int]
    recall: float
    microseconds: float


def build(
    item: Floats,
    query: Floats,
    rows: Rows,
    config: RetrievalConfig,
    progress: Progress | None = None,
    *,
    bias: Floats | None = None,
    events: Rows | None = None,
) -> tuple[Ann, list[Tuned]]:
    """Build an index over some rows and tune it.

    Up to `config.exact_below` rows, the index is flat. For more rows, every kind in `config.index_kinds` is tuned to
    `config.target_recall` (recall@100 against exact search). The first kind that reaches the target is taken, unless a
    later one takes at least a fifth less CPU time. Everything is measured on a sample of the items' query vectors.

    Args:
        item: (N, D) float32, the items' vectors as candidates.
        query: (N, D) float32, the items' vectors as queries.
        rows: (I,) int64, ascending, the rows to index.
        config: kinds, target, sample size and seed.
        progress: called with a message and the share that is done, 0 to 1.
        bias: (N,) float32, added to every inner product with the item; None = 0.
        events: (N,) int64, weights for drawing sample queries, so that they resemble requests; None = uniform.

    Returns:
        (the index, each kind at its best setting).
    """
    report = progress or (lambda _message, _share: None)
    vectors = _IndexedVectors.of(item, bias, rows, config)
    if len(rows) <= max(config.exact_below, _FEWEST_ROWS):
        flat = faiss.IndexFlatIP(vectors.whole.shape[1])
        flat.add(np.ascontiguousarray(vectors.whole[rows]))
        return Ann(flat, rows, "flat", {}, 1.0), []
    generator = np.random.default_rng(config.seed)
    nlist = min(len(rows), 4 * round(math.sqrt(len(rows))))
    training = min(len(rows), nlist * config.train_rows_per_list)
    sample = np.ascontiguousarray(vectors.indexed[np.sort(generator.choice(rows, training, replace=False))])
    probes = _sample(generator, len(query), config.tuning_queries, events)
    tuning = _Tuning(vectors, np.ascontiguousarray(query[probes]), config)
    report(f"training {nlist} inverted lists", 0.05)
    candidates = _tuned_kinds(vectors, sample, nlist, tuning, config, report)
    ann, best = candidates[0]
    for other, tuned in candidates[1:]:
        if _order(replace(tuned, microseconds=_WORTHWHILE * tuned.microseconds), config.target_recall) < _order(
            best, config.target_recall
        ):
            ann, best = other, tuned
    if best.recall < config.target_recall:
        _log.warning(
            "recall@%d is %.3f at best, below the target of %.3f", _RECALL_AT, best.recall, config.target_recall
        )
    if ann.kind != "flat":
        report("tuning for filters", 0.9)
        ann = replace(ann, parameters=ann.parameters | tuning.filtered(ann, generator))
    report(_summary(best), 1.0)
    return ann, [tuned for _, tuned in candidates]


@dataclass(frozen=True, eq=False)
class _IndexedVectors:
    """The items' vectors, with the bias as one more dimension if there is one.

    whole: (N, ·) float32, with all dimensions. indexed: (N, ·) float32, in the form that is indexed. rows: (I,) int64,
    the rows to index. parameters: the parameters of an index over a prefix.
    """

    whole: Floats
    indexed: Floats
    rows: Rows
    parameters: dict[str, int]

    @classmethod
    def of(cls, item: Floats, bias: Floats | None, rows: Rows, config: RetrievalConfig) -> _IndexedVectors:
        def biased(vectors: Floats) -> Floats:
            return vectors if bias is None or not bias.any() else with_bias(vectors, bias)

        whole = biased(item)
        # Few rows are scanned exactly, which needs no prefix.
        flat = len(rows) <= max(config.exact_below, _FEWEST_ROWS)
        if flat or config.index_prefix is None or config.index_prefix >= item.shape[1]:
            return cls(whole, whole, rows, {})
        parameters = {"prefix": config.index_prefix, "dim": whole.shape[1], "funnel": int(config.funnel)}
        return cls(whole, biased(unit_prefix(item, config.index_prefix)), rows, parameters)


def _tuned_kinds(
    vectors: _IndexedVectors, sample: Floats, nlist: int, tuning: _Tuning, config: RetrievalConfig, report: Progress
) -> list[tuple[Ann, Tuned]]:
    """Return an index of each kind at its best setting."""
    dim, rows = vectors.indexed.shape[1], vectors.rows
    # All kinds share the centres, because finding them is most of the work.
    centres = faiss.IndexFlatIP(dim)
    candidates = []
    for number, kind in enumerate(config.index_kinds):
        index = _empty(kind, centres, dim, nlist)
        index.train(sample)
        for start in range(0, len(rows), _ADD_ROWS):
            index.add(np.ascontiguousarray(vectors.indexed[rows[start : start + _ADD_ROWS]]))
            report(f"adding vectors, {kind}", (number + 0.3 + 0.4 * start / len(rows)) / len(config.index_kinds))
        lists = {} if kind == "flat" else {"nlist": nlist}
        candidates.append(tuning.cheapest(Ann(index, rows, kind, vectors.parameters | lists, 0.0)))
        report(_summary(candidates[-1][1]), (number + 1) / len(config.index_kinds))
    return candidates


def _sample(generator: np.random.Generator, n: int, size: int, events: Rows | None) -> Rows:
    weight = None if events is None or not events.any() else events / events.sum()
    size = min(size, n if weight is None else int(np.count_nonzero(weight)))
    return np.sort(generator.choice(n, size, replace=False, p=weight))


def _empty(kind: str, centres: Any, dim: int, nlist: int) -> Any:
    product = faiss.METRIC_INNER_PRODUCT
    if kind == "flat":
        return faiss.IndexFlatIP(dim)
    if kind == "ivf_sq8":
        return faiss.IndexIVFScalarQuantizer(centres, dim, nlist, faiss.ScalarQuantizer.QT_8bit, product)
    # Four bits for each pair of dimensions take a sixteenth of the vectors' memory, and are scored in CPU registers.
    return faiss.IndexIVFPQFastScan(centres, dim, nlist, dim // 2 if dim % 2 == 0 else dim, 4, product)


def _order(tuned: Tuned, target: float) -> tuple[float, float]:
    """Return a sort key: first the settings that reach the target, by cost; then the others, by recall."""
    return (0.0, tuned.microseconds) if tuned.recall >= target else (1.0, -tuned.recall)


def _summary(tuned: Tuned) -> str:
    parameters = ", ".join(f"{name} {value}" for name, value in tuned.parameters.items())
    return f"{tuned.kind}: {parameters}; recall@{_RECALL_AT} {tuned.recall:.3f}, {tuned.microseconds:.0f} µs of CPU"


class _Tuning:
    """Measures recall and cost on sample queries (n, D), answered like requests: a shortlist, then exact ranking."""

    def __init__(self, vectors: _IndexedVectors, queries: Floats, config: RetrievalConfig) -> None:
        self._whole, self._indexed, self._rows = vectors.whole, vectors.indexed, vectors.rows
        self._queries, self._config = queries, config
        dim = queries.shape[1]
        self._whole_queries, self._bias = queries, np.zeros(len(self._whole), np.float32)
        if self._whole.shape[1] > dim:
            self._whole_queries = with_bias(queries, np.ones(len(queries), np.float32))
            self._bias = self._whole[:, dim]
        self._k = min(_RECALL_AT, len(self._rows))
        self._truth = self._best(self._whole_queries, self._rows)

    def cheapest(self, ann: Ann) -> tuple[Ann, Tuned]:
        """Return the index at the cheapest tried setting that reaches the target, else at the one of best recall."""
        settings, left = [], 1 if ann.kind == "flat" else _SETTINGS_AT_TARGET
        for shortlist in self._shortlists(ann):
            tried = replace(ann, parameters=ann.parameters | {"shortlist": shortlist})
            if ann.kind != "flat":
                tried = self._least_nprobe(tried)
            tried = replace(tried, recall=self._recall(tried))
            settings.append((tried, Tuned(ann.kind, tried.parameters, tried.recall, self._microseconds(tried))))
            left -= tried.recall >= self._config.target_recall
            if not left:
                break
        return min(settings, key=lambda setting: _order(setting[1], self._config.target_recall))

    def filtered(self, ann: Ann, generator: np.random.Generator) -> dict[str, int]:
        """Return each visited_P: how many eligible rows must be visited if a random P per cent are eligible."""
        needed, visited, queries = {}, ann.visited, self._queries[:_FILTERED_QUERIES]
        for percent in FILTERED_PERCENT:
            mask = generator.random(len(self._rows)) < percent / 100
            eligible = self._rows[mask]
            if len(eligible) <= max(self._config.exact_below, self._k):
                break  # so few rows are scanned exactly
            truth = self._best(self._whole_queries[: len(queries)], eligible)
            selection = Selection(mask, np.bincount(ann.list_of[mask], minlength=ann.parameters["nlist"]))
            size = self._k * ann.shortlist
            while True:
                tried = replace(ann, parameters=ann.parameters | {f"visited_{percent}": visited})
                lists = [tried.search_one(query, size, selection) for query in queries]
                if self._hits(lists, truth) >= self._config.target_recall or visited >= len(eligible):
                    break
                visited = min(len(eligible), math.ceil(1.5 * visited))
            needed[f"visited_{percent}"] = visited
        return needed

    def _best(self, queries: Floats, rows: Rows) -> Rows:
        """Return the k best rows of each query among `rows`, by exact search: (n, k) int64."""
        return topk.search(queries, self._whole, self._k, rows).rows.reshape(len(queries), self._k)

    def _shortlists(self, ann: Ann) -> tuple[int, ...]:
        """Return the shortlists to try; for a prefix, without those that are too short even for an exact search."""
        if not ann.prefix:
            return _SHORTLISTS[ann.kind]
        longest = min(len(self._rows), self._k * _PREFIX_SHORTLISTS[-1])
        prefix_lists = topk.search(ann.as_indexed(self._queries), self._indexed, longest, self._rows)
        by_prefix = prefix_lists.rows.reshape(-1, longest)

        def enough(shortlist: int) -> bool:
            lists = [line[: self._k * shortlist] for line in by_prefix]
            return self._hits(lists, self._truth) >= self._config.target_recall

        last = len(_PREFIX_SHORTLISTS) - 1
        first = next((n for n, size in enumerate(_PREFIX_SHORTLISTS) if enough(size)), last)
        return _PREFIX_SHORTLISTS[first:]

    def _least_nprobe(self, ann: Ann) -> Ann:
        """Return the index with about the smallest nprobe that reaches the target."""
        nlist, target, enough, short = ann.parameters["nlist"], self._config.target_recall, 1, 0

        def probing(nprobe: int) -> Ann:
            return replace(ann, parameters=ann.parameters | {"nprobe": nprobe})

        # Doubling finds an nprobe that is enough; halving the gap then finds the smallest one to within a sixteenth.
        while (reached := self._recall(probing(enough))) < target and enough < nlist:
            enough, short = min(2 * enough, nlist), enough
        while reached >= target and enough - short > max(1, enough // 16):
            middle = (enough + short) // 2
            if self._recall(probing(middle)) >= target:
                enough = middle
            else:
                short = middle
        tried = probing(enough)
        return replace(tried, parameters=tried.parameters | {"visited": self._visited(tried, enough)})

    def _visited(self, ann: Ann, nprobe: int) -> int:
        """Return the number of rows in the lists that are searched, on average over the queries."""
        sizes = np.array([ann.index.invlists.list_size(number) for number in range(ann.parameters["nlist"])])
        _, centres = ann.index.quantizer.search(ann.as_indexed(self._queries), nprobe)
        return math.ceil(sizes[centres].sum() / len(self._queries))

    def _recall(self, ann: Ann) -> float:
        # The shortlist is ranked exactly afterwards, so only the rows that it misses reduce the recall.
        lists = ann.search(self._queries, self._k * ann.shortlist)
        lists = [self._narrow(ann, rows, query) for rows, query in zip(lists, self._whole_queries, strict=True)]
        return self._hits(lists, self._truth)

    def _hits(self, lists: list[Rows], truth: Rows) -> float:
        """Return the share of the true rows (n, k) that the lists hold; no list may hold a row twice."""
        is_true, hits = np.zeros(len(self._whole), bool), 0
        for true, rows in zip(truth, lists, strict=True):
            is_true[true] = True
            hits += int(np.count_nonzero(is_true[rows]))
            is_true[true] = False
        return hits / truth.size

    def _narrow(self, ann: Ann, rows: Rows, query: Floats) -> Rows:
        dim = self._queries.shape[1]
        return ann.narrow(rows, query[:dim], self._whole[:, :dim], self._bias, 2 * self._k)

    def _microseconds(self, ann: Ann) -> float:
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        try:
            began = time.thread_time()
            for query, whole_query in zip(self._queries, self._whole_queries, strict=True):
                rows = self._narrow(ann, ann.search_one(query, self._k * ann.shortlist), whole_query)
                np.argsort(-np.einsum("nd,d->n", self._whole[rows], whole_query))
            return 1e6 * (time.thread_time() - began) / len(self._queries)
        finally:
            faiss.omp_set_num_threads(threads)
