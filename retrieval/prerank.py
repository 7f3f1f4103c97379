"""The pre-ranker: what retrieval found, put in order by its score and a few interaction counters.

After InteractRank (Pinterest, arXiv 2504.06609): score' = w · [score, IQP_1 … IQP_N], where IQP(p, q) is how often
what belongs to q was opened after what belongs to p, of all that was opened after p. Entities are coarse or fine (an
item, its category, its brand), so that a rare item is known by its kin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from .errors import RetrievalError
from .exact import Floats, Rows

Codes = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Counter:
    """Counts of one pair of entity kinds, by the entity of what is viewed, in CSR form.

    Shapes: query_of, item_of (N,) int32, the entity of each catalogue row on either side, −1 for none; indptr (Q + 1,)
    int64, column (E,) int32 ascending within a row, count (E,) float32; of (Q,) float32, all that followed each query
    entity; share (I,) float32, each item entity's share of all that was opened.
    """

    name: str
    query_of: Codes
    item_of: Codes
    indptr: Rows
    column: Codes
    count: Floats
    of: Floats
    share: Floats

    @classmethod
    def of_pairs(
        cls, name: str, query_of: Codes, item_of: Codes, views: Rows, opened: Rows, weight: Floats | None = None
    ) -> Counter:
        """Counted from (view, opened) pairs of catalogue rows (P,) int64 each, with weights (P,) or one each."""
        weight = np.ones(len(views), np.float32) if weight is None else weight
        query, item = query_of[views].astype(np.int64), item_of[opened].astype(np.int64)
        there = (query >= 0) & (item >= 0)
        n_query, n_item = int(query_of.max(initial=-1)) + 1, int(item_of.max(initial=-1)) + 1
        key, which = np.unique(query[there] * max(1, n_item) + item[there], return_inverse=True)
        count = np.bincount(which, weight[there], len(key)).astype(np.float32)
        row = key // max(1, n_item)
        indptr = np.searchsorted(row, np.arange(n_query + 1)).astype(np.int64)
        of = np.bincount(row, count, n_query).astype(np.float32)
        share = np.bincount(item[there], weight[there], n_item)
        share = (share / max(share.sum(), 1e-12)).astype(np.float32)
        return cls(name, query_of, item_of, indptr, (key % max(1, n_item)).astype(np.int32), count, of, share)

    def log_iqp(self, view: int, rows: Rows, smoothing: float) -> Floats:
        """(C,) float32: log((count + smoothing · share) / (of + smoothing)) of candidate rows (C,) after a view.

        NaN where nothing is known: the view has no entity or was never followed, or the candidate has no entity.
        """
        entity = int(self.query_of[view])
        if entity < 0 or self.of[entity] == 0:
            return np.full(len(rows), np.nan, np.float32)
        span = slice(self.indptr[entity], self.indptr[entity + 1])
        column, wanted = self.column[span], self.item_of[rows]
        place = np.searchsorted(column, wanted)
        place[place == len(column)] = 0
        count = np.where(column[place] == wanted, self.count[span][place], np.float32(0))
        chance = (count + smoothing * self.share[wanted]) / (self.of[entity] + smoothing)
        return np.where(wanted >= 0, np.log(np.maximum(chance, 1e-9)), np.float32(np.nan)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class PreRanker:
    """A linear order over the retrieval score and standardised counters; what is not known counts as the mean.

    Shapes: weight (1 + F,) float32, the score's first; mean, deviation (F,) float32.
    """

    counters: tuple[Counter, ...]
    weight: Floats
    mean: Floats
    deviation: Floats
    smoothing: float = 10.0

    def features(self, view: int, rows: Rows) -> Floats:
        """(C, F) float32 standardised log IQP of candidates after a view, 0 where nothing is known."""
        return standardised(raw_features(self.counters, view, rows, self.smoothing), self.mean, self.deviation)

    def scores(self, view: int, rows: Rows, score: Floats) -> Floats:
        """(C,) float32 for candidates (C,) with their retrieval scores (C,): the higher the better."""
        added: Floats = self.features(view, rows) @ self.weight[1:]
        return self.weight[0] * score + added


def raw_features(counters: Sequence[Counter], view: int, rows: Rows, smoothing: float) -> Floats:
    """(C, F) float32, NaN where nothing is known."""
    return np.stack([counter.log_iqp(view, rows, smoothing) for counter in counters], axis=1)


def standardised(raw: Floats, mean: Floats, deviation: Floats) -> Floats:
    """Of mean 0 and deviation 1, NaN as 0."""
    return np.nan_to_num((raw - mean) / deviation).astype(np.float32)


def fit(
    counters: Sequence[Counter],
    views: Rows,
    candidates: Sequence[Rows],
    scores: Sequence[Floats],
    target: Rows,
    *,
    smoothing: float = 10.0,
    ridge: float = 1e-3,
) -> PreRanker:
    """Learn the weights from lists that retrieval gave and what was opened.

    The loss is the softmax cross-entropy of each list, over what retrieval would show: no negative has to be drawn, and
    so none has to be corrected for. The counters must come from before what is learned from.

    Args:
        views: (L,) int64 viewed rows; candidates: L arrays of rows; scores: their retrieval scores
        target: (L,) int64, the place of what was opened in its list, −1 if it is not there: such a list teaches nothing

    Raises:
        RetrievalError: no list holds its target.
    """
    used = [place for place in range(len(views)) if target[place] >= 0]
    if not used:
        raise RetrievalError("no list holds what was opened: there is nothing to learn the pre-ranker from")
    raw = [raw_features(counters, int(views[p]), candidates[p], smoothing) for p in used]
    every = np.concatenate(raw)
    known = np.isfinite(every).sum(axis=0)
    mean = np.where(known, np.nansum(every, axis=0) / np.maximum(known, 1), 0).astype(np.float32)
    spread = np.sqrt(np.nansum((every - mean) ** 2, axis=0) / np.maximum(known, 1))
    deviation = np.where(spread > 1e-6, spread, 1).astype(np.float32)
    lengths = np.array([len(candidates[p]) for p in used])
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    own = np.concatenate([scores[p] for p in used])
    scale = float(own.std()) or 1.0
    features = np.column_stack([own / scale, standardised(every, mean, deviation)]).astype(np.float64)
    chosen = starts + target[used]

    def loss(weight: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = features @ weight
        logits -= np.repeat(np.maximum.reduceat(logits, starts), lengths)
        odds = np.exp(logits)
        total = np.add.reduceat(odds, starts)
        share = odds / np.repeat(total, lengths)
        slope = features.T @ share - features[chosen].sum(axis=0)
        value = (np.log(total) - logits[chosen]).sum()
        n = len(used)
        return float(value / n + ridge * weight @ weight), slope / n + 2 * ridge * weight

    first = np.zeros(features.shape[1])
    first[0] = 1.0
    found = minimize(loss, first, jac=True, method="L-BFGS-B").x
    found[0] /= scale
    return PreRanker(tuple(counters), found.astype(np.float32), mean, deviation, smoothing)
