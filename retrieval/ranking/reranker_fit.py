"""The pre-ranker's weights, learned from lists that retrieval gave and from what was opened of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from retrieval.arrays import Floats, Rows, offsets_from_lengths
from retrieval.errors import RetrievalError
from retrieval.ranking.reranker import Context, Counter, Reranker, raw_features, standardised


def fit(
    counters: Sequence[Counter],
    contexts: Sequence[Context],
    candidates: Sequence[Rows],
    scores: Sequence[Floats],
    target: Rows,
    weight: Floats | None = None,
    *,
    smoothing: float = 10.0,
    depth: int = 200,
    ridge: float = 1e-3,
) -> Reranker:
    """Learn the weights.

    The loss is the softmax cross-entropy of each list, over what retrieval would show: no negative has to be drawn, and
    so none has to be corrected for. The counters must come from before what is learned from.

    Args:
        contexts: L requests; candidates: L arrays of rows; scores: their retrieval scores.
        weight: (L,) what each list counts; None = all alike.
        target: (L,) int64, the place of what was opened in its list, −1 if it is not there: nothing is learned then.

    Raises:
        RetrievalError: no list holds its target.
    """
    used = [place for place in range(len(contexts)) if target[place] >= 0]
    if not used:
        raise RetrievalError("no list holds what was opened: there is nothing to learn the pre-ranker from")
    raw = [raw_features(counters, contexts[p], candidates[p], smoothing) for p in used]
    every = np.concatenate(raw)
    known = np.isfinite(every).sum(axis=0)
    mean = np.where(known, np.nansum(every, axis=0) / np.maximum(known, 1), 0).astype(np.float32)
    spread = np.sqrt(np.nansum((every - mean) ** 2, axis=0) / np.maximum(known, 1))
    deviation = np.where(spread > 1e-6, spread, 1).astype(np.float32)
    lengths = np.array([len(candidates[p]) for p in used])
    starts = offsets_from_lengths(lengths)[:-1]
    own = np.concatenate([scores[p] for p in used])
    scale = float(own.std()) or 1.0
    features = np.column_stack([own / scale, standardised(every, mean, deviation)]).astype(np.float64)
    chosen = starts + target[used]
    counts = np.ones(len(used)) if weight is None else np.asarray(weight, np.float64)[used]

    def loss(weight: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = features @ weight
        logits -= np.repeat(np.maximum.reduceat(logits, starts), lengths)
        odds = np.exp(logits)
        total = np.add.reduceat(odds, starts)
        share = odds * np.repeat(counts / total, lengths)
        slope = features.T @ share - counts @ features[chosen]
        value = counts @ (np.log(total) - logits[chosen])
        n = counts.sum()
        return float(value / n + ridge * weight @ weight), slope / n + 2 * ridge * weight

    first = np.zeros(features.shape[1])
    first[0] = 1.0
    # What retrieval ranks higher is never worse for it: where its score says nothing, it counts nothing.
    bounds = [(0.0, None)] + [(None, None)] * (len(first) - 1)
    found = minimize(loss, first, jac=True, method="L-BFGS-B", bounds=bounds).x
    found[0] /= scale
    return Reranker(tuple(counters), found.astype(np.float32), mean, deviation, smoothing, depth)
