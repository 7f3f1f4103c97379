"""Building the approximate index: several kinds, each tuned to a recall; the one that costs least wins."""

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
from retrieval.ann.matryoshka import shorter
from retrieval.arrays import Floats, Rows
from retrieval.config import RetrievalConfig

_log = logging.getLogger(__name__)
_RECALL_AT = 100
_ADD_ROWS = 65_536
_FILTERED_QUERIES = 100
# How many times k rows are ranked exactly. Eight bits lose little, so that more would only cost.
_SHORTLISTS = {"ivf_sq8": (3,), "ivf_pq4": (3, 6, 10), "flat": (1,)}
# The same for prefixes, of which as many are needed as their own order is wrong.
_OF_PREFIXES = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96)
# Settings that reach the target before the cheapest is taken: a longer list may do with fewer inverted lists.
_ENOUGH = 3

# Codes of four bits cannot be learned from fewer vectors.
_FEWEST = 16

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Tuned:
    """One kind of index at its cheapest setting: microseconds of CPU a query on one thread, exact ranking included."""

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
    """(an index over the given rows of item, and what was tried).

    Up to `config.exact_below` rows it is flat. Beyond that, of `config.index_kinds` the first, unless another one costs
    a fifth less CPU at `config.target_recall`, recall@100 against exact search; of the first `config.index_prefix`
    dimensions, if so wished. All is measured on a sample of the items' query vectors, drawn by their `events`: so
    requests come.

    Shapes: item, query (N, D) float32; rows (I,) int64, ascending; bias (N,) float32, added to every inner product with
    the item; events (N,) int64.
    """
    report = progress or (lambda _message, _share: None)

    def biased(vectors: Floats) -> Floats:
        return vectors if bias is None or not bias.any() else with_bias(vectors, bias)

    whole = biased(item)
    if len(rows) <= max(config.exact_below, _FEWEST):
        flat = faiss.IndexFlatIP(whole.shape[1])
        flat.add(np.ascontiguousarray(whole[rows]))
        return Ann(flat, rows, "flat", {}, 1.0), []
    indexed, common = whole, {}
    if config.index_prefix is not None and config.index_prefix < item.shape[1]:
        common = {"prefix": config.index_prefix, "dim": whole.shape[1], "funnel": int(config.funnel)}
        indexed = biased(shorter(item, config.index_prefix))
    dim, target = indexed.shape[1], config.target_recall
    generator = np.random.default_rng(config.seed)
    nlist = min(len(rows), 4 * round(math.sqrt(len(rows))))
    training = min(len(rows), nlist * config.train_rows_per_list)
    sample = np.ascontiguousarray(indexed[np.sort(generator.choice(rows, training, replace=False))])
    probes = _sample(generator, len(query), config.tuning_queries, events)
    tuning = _Tuning(whole, indexed, np.ascontiguousarray(query[probes]), rows, config)
    report(f"training {nlist} inverted lists", 0.05)
    # One set of lists for all kinds: finding the centres is most of the work.
    centres = faiss.IndexFlatIP(dim)
    found = []
    for place, kind in enumerate(config.index_kinds):
        index = _empty(kind, centres, dim, nlist)
        index.train(sample)
        for start in range(0, len(rows), _ADD_ROWS):
            index.add(np.ascontiguousarray(indexed[rows[start : start + _ADD_ROWS]]))
            report(f"adding vectors, {kind}", (place + 0.3 + 0.4 * start / len(rows)) / len(config.index_kinds))
        lists = {} if kind == "flat" else {"nlist": nlist}
        found.append(tuning.of(Ann(index, rows, kind, common | lists, 0.0)))
        report(_said(found[-1][1]), (place + 1) / len(config.index_kinds))
    ann, best = found[0]
    for other, tuned in found[1:]:
        # A fifth at least must be saved: timing is noisy, and the same input should give the same index.
        if _order(replace(tuned, microseconds=1.25 * tuned.microseconds), target) < _order(best, target):
            ann, best = other, tuned
    if best.recall < target:
        _log.warning("recall@%d is %.3f at best, below %.3f", _RECALL_AT, best.recall, target)
    if ann.kind != "flat":
        report("tuning for filters", 0.9)
        ann = replace(ann, parameters=ann.parameters | tuning.filtered(ann, generator))
    report(_said(best), 1.0)
    return ann, [tuned for _, tuned in found]


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
    # Pairs of dimensions in four bits each: codes an eighth of the size, read from registers.
    return faiss.IndexIVFPQFastScan(centres, dim, nlist, dim // 2 if dim % 2 == 0 else dim, 4, product)


def _order(tuned: Tuned, target: float) -> tuple[float, float]:
    """Reaching the target comes first, then the cost; where none does, recall."""
    return (0.0, tuned.microseconds) if tuned.recall >= target else (1.0, -tuned.recall)


def _said(tuned: Tuned) -> str:
    parameters = ", ".join(f"{name} {value}" for name, value in tuned.parameters.items())
    return f"{tuned.kind}: {parameters}; recall@{_RECALL_AT} {tuned.recall:.3f}, {tuned.microseconds:.0f} µs of CPU"


class _Tuning:
    """Recall and cost on a sample of queries (n, D), as a request is answered: a shortlist, then exact ranking.

    whole, indexed: (N, ·) the items with all dimensions, and as they are indexed; both with the bias, if there is one.
    """

    def __init__(self, whole: Floats, indexed: Floats, queries: Floats, rows: Rows, config: RetrievalConfig) -> None:
        self._whole, self._indexed, self._queries, self._rows, self._config = whole, indexed, queries, rows, config
        dim = queries.shape[1]
        self._asked, self._bias = queries, np.zeros(len(whole), np.float32)
        if whole.shape[1] > dim:
            self._asked, self._bias = with_bias(queries, np.ones(len(queries), np.float32)), whole[:, dim]
        self._k = min(_RECALL_AT, len(rows))
        self._truth = topk.search(self._asked, whole, self._k, rows).rows.reshape(len(queries), self._k)

    def of(self, ann: Ann) -> tuple[Ann, Tuned]:
        """The cheapest setting that reaches the target, else the one of the best recall."""
        settings, left = [], 1 if ann.kind == "flat" else _ENOUGH
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

    def _shortlists(self, ann: Ann) -> tuple[int, ...]:
        """What may be tried; of prefixes from the first on with which an exact search of them reaches the target."""
        if not ann.prefix:
            return _SHORTLISTS[ann.kind]
        most = min(len(self._rows), self._k * _OF_PREFIXES[-1])
        found = topk.search(ann.seen(self._queries), self._indexed, most, self._rows).rows.reshape(-1, most)

        def enough(shortlist: int) -> bool:
            lists = [line[: self._k * shortlist] for line in found]
            return self._hits(lists, self._truth) >= self._config.target_recall

        first = next((n for n, size in enumerate(_OF_PREFIXES) if enough(size)), len(_OF_PREFIXES) - 1)
        return _OF_PREFIXES[first:]

    def filtered(self, ann: Ann, generator: np.random.Generator) -> dict[str, int]:
        """visited_P: how many eligible rows have to be looked at where P per cent are eligible, by chance."""
        found, visited, queries = {}, ann.visited, self._queries[:_FILTERED_QUERIES]
        for percent in FILTERED_PERCENT:
            mask = generator.random(len(self._rows)) < percent / 100
            eligible = self._rows[mask]
            if len(eligible) <= max(self._config.exact_below, self._k):
                break  # fewer are scanned exactly
            asked = self._asked[: len(queries)]
            truth = topk.search(asked, self._whole, self._k, eligible).rows.reshape(len(queries), self._k)
            selection = Selection(mask, np.bincount(ann.list_of[mask], minlength=ann.parameters["nlist"]))
            size = self._k * ann.shortlist
            while True:
                tried = replace(ann, parameters=ann.parameters | {f"visited_{percent}": visited})
                lists = [tried.search_one(query, size, selection) for query in queries]
                if self._hits(lists, truth) >= self._config.target_recall or visited >= len(eligible):
                    break
                visited = min(len(eligible), math.ceil(1.5 * visited))
            found[f"visited_{percent}"] = visited
        return found

    def _least_nprobe(self, ann: Ann) -> Ann:
        """With about the smallest nprobe that reaches the target."""
        nlist, target, enough, short = ann.parameters["nlist"], self._config.target_recall, 1, 0

        def probing(nprobe: int) -> Ann:
            return replace(ann, parameters=ann.parameters | {"nprobe": nprobe})

        # Doubling finds a number that is enough, halving the gap the smallest within a sixteenth.
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
        """Rows in the lists that are probed, in the mean over the queries."""
        sizes = np.array([ann.index.invlists.list_size(number) for number in range(ann.parameters["nlist"])])
        _, centres = ann.index.quantizer.search(ann.seen(self._queries), nprobe)
        return math.ceil(sizes[centres].sum() / len(self._queries))

    def _recall(self, ann: Ann) -> float:
        # The shortlist is ranked exactly afterwards, so that only what it misses counts.
        lists = ann.search(self._queries, self._k * ann.shortlist)
        lists = [self._narrowed(ann, rows, query) for rows, query in zip(lists, self._asked, strict=True)]
        return self._hits(lists, self._truth)

    def _hits(self, lists: list[Rows], truth: Rows) -> float:
        """The share of the true rows, (queries, k), that the lists hold; no list holds a row twice."""
        wanted, hits = np.zeros(len(self._whole), bool), 0
        for true, rows in zip(truth, lists, strict=True):
            wanted[true] = True
            hits += int(np.count_nonzero(wanted[rows]))
            wanted[true] = False
        return hits / truth.size

    def _narrowed(self, ann: Ann, rows: Rows, query: Floats) -> Rows:
        dim = self._queries.shape[1]
        return ann.narrowed(rows, query[:dim], self._whole[:, :dim], self._bias, 2 * self._k)

    def _microseconds(self, ann: Ann) -> float:
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        try:
            began = time.thread_time()
            for query, asked in zip(self._queries, self._asked, strict=True):
                rows = self._narrowed(ann, ann.search_one(query, self._k * ann.shortlist), asked)
                np.argsort(-np.einsum("nd,d->n", self._whole[rows], asked))
            return 1e6 * (time.thread_time() - began) / len(self._queries)
        finally:
            faiss.omp_set_num_threads(threads)
